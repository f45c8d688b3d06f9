# Shell code shared by test_gpu.sh and bench_gpu.sh: arguments, the bundle, the device, and the build. Sets `folder`
# (the build folder) and `bin`; remaining words of the command line are in `rest`.
#
# Usage that both have in common:
#   --bundle FOLDER  what tools/bundle.sh collected, for a machine without packages
#   --build FOLDER   build there instead of build/cuda
#   --arch LIST      GPU architectures as CMake names them; default native: the GPU of this machine

folder=build/cuda arch=native bundle='' rest=()

gpu_arguments() {
  while (($#)); do
    case $1 in
      --bundle) bundle=$(cd "${2:?--bundle needs a folder}" && pwd) && shift ;;
      --build) folder=${2:?--build needs a folder} && shift ;;
      --arch) arch=${2:?--arch needs a list} && shift ;;
      --help | -h)
        sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"
        sed -n '/^#   --/s/^#   /  /p' tools/gpu_build.sh
        exit 0
        ;;
      *) rest+=("$1") ;;
    esac
    shift
  done
  bin=$folder/bin
}

gpu_environment() {
  PATH=$PATH:/usr/local/cuda/bin
  if [[ $bundle ]]; then
    PATH=$bundle/bin:$PATH
    export PKG_CONFIG_LIBDIR=$bundle/lib/pkgconfig CMAKE_PREFIX_PATH=$bundle
    export LD_LIBRARY_PATH=$bundle/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
  fi
  export PATH OMP_WAIT_POLICY=passive GOMP_SPINCOUNT=2000
}

gpu_describe() {
  nvidia-smi --query-gpu=name,compute_cap,memory.total,driver_version --format=csv,noheader 2>/dev/null || {
    echo "no GPU here: nvidia-smi found none" >&2
    return 1
  }
  nvcc --version | tail -n 1
}

# gpu_build TARGET: builds it in the preset cuda; with a bundle nothing is installed. The folder may be one that was
# configured without tests.
gpu_build() {
  [[ $bundle ]] || tools/setup.sh
  cmake --preset cuda -B "$folder" -DCMAKE_CUDA_ARCHITECTURES="$arch" -DBUILD_TESTING=ON &&
    cmake --build "$folder" -j "$(nproc)" --target "$1"
}
