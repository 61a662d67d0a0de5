/* The kernel's image for AMD-V, inside that for VT-x: kernel.ld says where start.S finds it. */
    .section .other, "a"
    .incbin "kernel-svm.bin"
    .section .note.GNU-stack, "", @progbits
