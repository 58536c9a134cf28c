use super::kernel_args;

kernel_args! {}
