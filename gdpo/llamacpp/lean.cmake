# Read by llama-cpp-python's own build through CMAKE_PROJECT_llama_cpp_INCLUDE: leaves out llama.cpp's
# command-line helpers, which the Python package never calls and which are 40 % of the compile time.
set(LLAMA_BUILD_COMMON OFF)

# AMX stays off: in some virtual machines the processor and the system offer it and its first instruction ends the
# process, and the matrices of models that run beside a training are too small to gain from it.
include(CheckCXXCompilerFlag)
check_cxx_compiler_flag(-mno-amx-tile GDPO_KNOWS_AMX)
if(GDPO_KNOWS_AMX)
  add_compile_options(-mno-amx-tile -mno-amx-int8 -mno-amx-bf16)
endif()
