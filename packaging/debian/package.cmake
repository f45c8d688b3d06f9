# What Debian wants otherwise than `cmake --install` lays it out. cpack runs this on the files before it packs them.
set(usr ${CPACK_TEMPORARY_INSTALL_DIRECTORY}/usr)
set(doc ${usr}/share/doc/drover)

# Its libraries are where the system looks.
file(GLOB programs ${usr}/libexec/drover/*)
foreach(program ${programs})
  file(RPATH_REMOVE FILE ${program})
endforeach()

file(REMOVE ${doc}/LICENSE) # is in copyright
file(COPY ${CMAKE_CURRENT_LIST_DIR}/copyright ${CMAKE_CURRENT_LIST_DIR}/changelog DESTINATION ${doc})

file(GLOB compressed ${usr}/share/man/man1/*.1)
execute_process(COMMAND gzip -9n ${doc}/changelog ${compressed} COMMAND_ERROR_IS_FATAL ANY)

file(RENAME ${usr}/share/zsh/site-functions ${usr}/share/zsh/vendor-completions)
