#!/usr/bin/env bash
# tests/ranks/mpirun.sh N PROGRAM [ARGUMENT...]: on N ranks of this machine, however few cores it has. With looks_on=1 mpirun does
# not end the others when one is killed, and exits with 0. Open MPI 4 and 5.
command -v mpirun >/dev/null || exit 77
# Root in a container is the usual case, and processes there may not look into each other's memory.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_btl_vader_single_copy_mechanism=none OMPI_MCA_rmaps_base_oversubscribe=1
# Open MPI unloads its plugins with what they hold, so that leaks of theirs have no name to be passed over by.
(($1 == 1)) || export ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0
exec mpirun ${looks_on:+--enable-recovery} -n "$1" --oversubscribe --bind-to none "${@:2}" </dev/null
