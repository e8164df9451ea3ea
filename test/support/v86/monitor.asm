; A guest of one sector for tests: it boots from the first disk, prints a dot at each tick of the BIOS's clock (18.2 Hz) on
; COM1, and obeys commands from COM1.
;
; Prints: 'B' when it has booted; '.' at each tick; after a command 6 bytes: the command's letter in lower case, the BIOS's
; status (0: well), and the checksum of the buffer (32 bits, little-endian).
; A command has 10 bytes: 'R' or 'W', count of sectors (1 ... 127), LBA (32 bits), seed (32 bits, of what 'W' writes).
; 'W' fills the buffer with the numbers seed, seed + STEP, seed + 2 STEP ... of 32 bits. The checksum of numbers n is
; sum = rotate_left(sum, 1) + n, from 0.

STEP    equ 0x9E3779B1
BUFFER  equ 0x1000              ; segment
COM1    equ 0x3f8

%include "src/dashboard/boot.asm"
        mov al, 'B'
        call put

main:   mov eax, [0x46c]        ; the BIOS's tick counter
        cmp eax, [ticks]
        je .poll
        mov [ticks], eax
        mov al, '.'
        call put
.poll:  mov dx, COM1 + 5
        in al, dx
        test al, 1
        jnz .read
        hlt                     ; until the next tick
        jmp main
.read:  mov di, op
        mov cx, 10
.next:  call get
        stosb
        loop .next
        call obey
        jmp main

obey:   mov al, [count]
        mov [packet.count], al
        mov eax, [lba]
        mov [packet.lba], eax
        mov ah, 0x42            ; extended read
        cmp byte [op], 'W'
        jne .go
        call size
        mov eax, [seed]
.fill:  mov [es:di], eax
        add di, 4
        add eax, STEP
        loop .fill
        mov ax, 0x4300          ; extended write, no verify
.go:    mov si, packet
        mov dl, [drive]
        int 0x13
        jc .told
        mov ah, 0
.told:  push ax
        mov al, [op]
        or al, 0x20
        call put
        pop ax
        mov al, ah
        call put
        call size
        xor eax, eax
.sum:   rol eax, 1
        add eax, [es:di]
        add di, 4
        loop .sum
        mov cx, 4
.out:   call put
        shr eax, 8
        loop .out
        xor ax, ax
        mov es, ax
        ret

; es:di = the buffer, cx = its 32-bit numbers
size:   mov ax, BUFFER
        mov es, ax
        xor di, di
        mov cl, [count]
        mov ch, 0
        shl cx, 7
        ret

; prints al
put:    push ax
        push dx
        mov ah, al
        mov dx, COM1 + 5
.wait:  in al, dx
        test al, 0x20
        jz .wait
        mov al, ah
        mov dx, COM1
        out dx, al
        pop dx
        pop ax
        ret

; al = the next byte
get:    mov dx, COM1 + 5
.wait:  in al, dx
        test al, 1
        jz .wait
        mov dx, COM1
        in al, dx
        ret

packet: db 16, 0
.count: dw 0
        dw 0, BUFFER
.lba:   dd 0, 0

ticks:  dd 0
drive:  db 0
op:     db 0
count:  db 0
lba:    dd 0
seed:   dd 0

        times 446 - ($ - $$) db 0
        times 64 db 0           ; no partitions
        dw 0xaa55
