; The guest of the demo page. It boots from the first disk and shows on the text screen that it is alive and that its disk
; is true: at each tick of the BIOS's clock it reads 8 sectors somewhere and checks what they hold, once a second it writes,
; and what is typed is kept on the disk. Built by nasm when the demo starts.
;
; The disk: sectors 0 ... 15 are this program; sector 16 is its state; from sector 2048 on the first four bytes of each
; sector are its number, xor MAGIC. The server fills in the number of sectors (`total`).

MAGIC   equ 0xB10C0DE5
STATE   equ 16                  ; sector
FIRST   equ 2048                ; sector
BUFFER  equ 0x2000              ; segment, 8 sectors
COLUMNS equ 76
CELLS   equ COLUMNS * 11
MAPROW  equ 8
NOTEMAX equ 56

%include "src/dashboard/boot.asm"
        mov si, loader
        mov ah, 0x42
        int 0x13
        jc start                ; the disk may come back
        jmp main

align 4
loader: db 16, 0
        dw 15
        dw 0x7e00, 0
        dq 1
packet: db 16, 0
.count: dw 8
        dw 0, BUFFER
.lba:   dq 0
drive:  db 0

        times 504 - ($ - $$) db 0
total:  dd 0                    ; at byte 504: sectors of the disk
        times 510 - ($ - $$) db 0
        dw 0xaa55

main:   mov di, seed            ; what follows the image holds anything
        mov cx, 1024
        xor ax, ax
        rep stosb
        mov byte [second], 18
        mov ax, 3               ; 80 by 25 characters
        int 0x10
        mov ax, 0xb800
        mov gs, ax
        call frame
        call load
        inc dword [state.boots]
        mov eax, [0x46c]
        mov [seed], eax
        call save
        call shownote

loop:   hlt
        call keys
        mov eax, [0x46c]
        cmp eax, [tick]
        je loop
        mov [tick], eax
        inc dword [ticks]
        call check
        call numbers
        dec byte [second]
        jnz loop
        mov byte [second], 18
        call write
        jmp loop

; Reads 8 sectors somewhere and checks them.
check:  call random
        mov ebx, [total]
        sub ebx, FIRST
        shr ebx, 3
        xor edx, edx
        div ebx                 ; edx: which eight
        mov [group], edx
        shl edx, 3
        add edx, FIRST
        mov [packet.lba], edx
        mov word [packet.count], 8
        mov ah, 0x42
        call disk
        jc .done
        push es
        mov ax, BUFFER
        mov es, ax
        xor di, di
        mov cx, 8
        mov edx, [packet.lba]
.next:  mov eax, edx
        xor eax, MAGIC
        cmp [es:di], eax
        je .good
        inc dword [wrong]
        jmp .step
.good:  inc dword [good]
.step:  inc edx
        add di, 512
        loop .next
        pop es
        call mark
.done:  ret

; Writes one sector, where what it holds stays true.
write:  call random
        mov ebx, [total]
        sub ebx, FIRST
        xor edx, edx
        div ebx
        add edx, FIRST
        mov [packet.lba], edx
        mov word [packet.count], 1
        push es
        mov ax, BUFFER
        mov es, ax
        xor di, di
        mov eax, edx
        xor eax, MAGIC
        mov cx, 128
        rep stosd
        pop es
        mov ax, 0x4300
        call disk
        jc .done
        inc dword [written]
.done:  ret

; The BIOS's call in ah; carry: it failed, and that is counted.
disk:   mov dl, [drive]
        mov si, packet
        int 0x13
        jnc .done
        inc dword [errors]
        stc
.done:  ret

load:   mov byte [state.size], 0
        mov dword [packet.lba], STATE
        mov word [packet.count], 1
        mov ah, 0x42
        call disk
        jc .done
        push ds
        mov ax, BUFFER
        mov ds, ax
        xor si, si
        mov di, state
        mov cx, 128
        rep movsd
        pop ds
        cmp dword [state.magic], MAGIC
        je .done
        mov dword [state.magic], MAGIC
        mov dword [state.boots], 0
        mov byte [state.size], 0
.done:  ret

save:   push es
        mov ax, BUFFER
        mov es, ax
        xor di, di
        mov si, state
        mov cx, 128
        rep movsd
        pop es
        mov dword [packet.lba], STATE
        mov word [packet.count], 1
        mov ax, 0x4300
        call disk
        jc .done
        inc dword [written]
.done:  ret

random: mov eax, [seed]
        mov edx, 1664525
        mul edx
        add eax, 1013904223
        mov [seed], eax
        rol eax, 16             ; the low bits are poor
        and eax, 0x7fffffff
        ret

; The cell of the group that was read is bright; the one before turns green.
mark:   mov di, [cell]
        cmp di, 0
        je .first
        mov word [gs:di], 0x02fe
.first: mov eax, [group]
        mov ebx, CELLS
        mul ebx
        mov ebx, [total]
        sub ebx, FIRST
        shr ebx, 3
        div ebx                 ; eax: which cell
        xor edx, edx
        mov ebx, COLUMNS
        div ebx
        imul ax, 80
        add ax, dx
        add ax, MAPROW * 80 + 2
        shl ax, 1
        mov di, ax
        mov [cell], di
        mov word [gs:di], 0x0ffe
        ret

; Typing: a note of at most NOTEMAX characters, kept by Enter.
keys:   mov ah, 1
        int 0x16
        jz .none
        mov ah, 0
        int 0x16
        movzx bx, byte [typed]
        cmp al, 13
        je .enter
        cmp al, 8
        je .back
        cmp al, 32
        jb keys
        cmp al, 126
        ja keys
        cmp bl, NOTEMAX
        jae keys
        mov [line + bx], al
        inc byte [typed]
        jmp .show
.back:  cmp bl, 0
        je keys
        dec byte [typed]
        jmp .show
.enter: mov cl, [typed]
        mov [state.size], cl
        mov si, line
        mov di, state.note
        mov cx, NOTEMAX
        rep movsb
        mov byte [typed], 0
        call save
        call shownote
.show:  mov si, line
        mov cl, [typed]
        mov di, (22 * 80 + 4) * 2
        mov ah, 0x0e
        call field
        jmp keys
.none:  ret

shownote:
        mov si, state.note
        mov cl, [state.size]
        mov di, (21 * 80 + 22) * 2
        mov ah, 0x0b
; cl characters at si to gs:di in the colours ah, then blanks up to NOTEMAX and a cursor.
field:  mov ch, NOTEMAX
.next:  cmp cl, 0
        je .blank
        lodsb
        mov [gs:di], ax
        add di, 2
        dec cl
        dec ch
        jnz .next
        ret
.blank: mov al, ' '
        mov [gs:di], ax
        add di, 2
        dec ch
        jnz .blank
        ret

numbers:
        mov eax, [state.boots]
        mov di, (2 * 80 + 38) * 2
        call decimal
        mov eax, [ticks]
        mov di, (3 * 80 + 38) * 2
        call decimal
        mov eax, [good]
        mov di, (4 * 80 + 38) * 2
        call decimal
        mov eax, [written]
        mov di, (5 * 80 + 38) * 2
        call decimal
        mov eax, [wrong]
        mov di, (4 * 80 + 76) * 2
        call decimal
        mov eax, [errors]
        mov di, (5 * 80 + 76) * 2
; The number eax, its last digit at gs:di, eight places.
decimal:
        mov cx, 8
        mov ebx, 10
.next:  xor edx, edx
        div ebx
        add dl, '0'
        mov dh, 0x0f
        mov [gs:di], dx
        sub di, 2
        test eax, eax
        jz .done
        loop .next
.done:  ret

; What does not change.
frame:  mov ah, 1               ; no cursor
        mov cx, 0x2000
        int 0x10
        xor di, di
        mov cx, 80
.bar:   mov word [gs:di], 0x3020
        mov word [gs:di + 24 * 160], 0x3020
        add di, 2
        loop .bar
        mov si, texts
.text:  lodsw
        test ax, ax
        jz .cells
        mov di, ax
        lodsb
        mov ah, al
.char:  lodsb
        test al, al
        jz .text
        mov [gs:di], ax
        add di, 2
        jmp .char
.cells: mov di, (MAPROW * 80 + 2) * 2
        mov dx, 11
.row:   mov cx, COLUMNS
.cell:  mov word [gs:di], 0x07fa
        add di, 2
        loop .cell
        add di, (80 - COLUMNS) * 2
        dec dx
        jnz .row
        ret

%macro text 4                   ; row, column, colours, words
        dw (%1 * 80 + %2) * 2
        db %3
        db %4, 0
%endmacro

texts:  text 0, 2, 0x30, "Blockwright"
        text 0, 15, 0x30, "a guest whose disk arrives while it runs"
        text 2, 2, 0x07, "Boots of this disk"
        text 3, 2, 0x07, "Ticks of the clock"
        text 4, 2, 0x07, "Sectors read, and true"
        text 5, 2, 0x07, "Sectors written"
        text 4, 48, 0x07, "not true"
        text 5, 48, 0x07, "failed"
        text 7, 2, 0x07, "Where it has read"
        text 21, 2, 0x07, "Kept on this disk:"
        text 22, 2, 0x0e, ">"
        text 24, 2, 0x30, "Type something and press Enter: the disk keeps it, also over a reload."
        dw 0

        times 16 * 512 - ($ - $$) db 0

; Not in the image.
        absolute 0xa000
seed:   resd 1
tick:   resd 1
ticks:  resd 1
good:   resd 1
wrong:  resd 1
written: resd 1
errors: resd 1
group:  resd 1
cell:   resw 1
second: resb 1
typed:  resb 1
line:   resb 64
        alignb 16
state:
.magic: resd 1
.boots: resd 1
.size:  resb 1
.note:  resb 503
