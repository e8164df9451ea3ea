; How a guest that boots from the first disk begins: stack below itself, segments 0, the drive's number kept. What includes
; it defines `drive`, a byte.
        bits 16
        org 0x7c00

start:  cli
        xor ax, ax
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov sp, 0x7c00
        sti
        cld
        mov [drive], dl
