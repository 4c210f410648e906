/* Entry, exception vectors and the three conduits. */

	.section .text.start, "ax"
	.global _start
	.type _start, %function
_start:
	msr	daifset, #15
	adrp	x1, boot_stack + 16384
	mov	sp, x1
	mov	x29, xzr
	mov	x30, xzr
	adr	x1, vectors
	msr	vbar_el1, x1
	isb
	adrp	x1, __bss_start
	ldr	x2, =__bss_end
1:	cmp	x1, x2
	b.hs	2f
	stp	xzr, xzr, [x1], #16
	b	1b
2:	bl	main
	b	.
	.size _start, . - _start
	.ltorg

/* Of the other VPs: x0 is the top of the stack, which holds the argument of secondary_main. */
	.global secondary_entry
	.type secondary_entry, %function
secondary_entry:
	msr	daifset, #15
	mov	sp, x0
	mov	x29, xzr
	mov	x30, xzr
	adr	x1, vectors
	msr	vbar_el1, x1
	isb
	ldr	x0, [sp]
	bl	secondary_main
	b	.
	.size secondary_entry, . - secondary_entry

	.text

/* Builds a struct trap_frame, calls `handler`(frame, kind), and goes back. */
	.macro trap kind, handler
	.balign 128
	sub	sp, sp, #288
	stp	x0, x1, [sp]
	mov	x1, #\kind
	adr	x0, \handler
	b	trap_common
	.endm

	.balign 2048
	.global vectors
	.type vectors, %object
vectors:
	trap	0, handle_trap	/* current EL with SP_EL0: never used */
	trap	1, handle_trap
	trap	2, handle_trap
	trap	3, handle_trap
	trap	4, handle_trap	/* current EL with SP_ELx: synchronous, IRQ, FIQ, SError */
	trap	5, handle_irq
	trap	6, handle_trap
	trap	7, handle_trap
	trap	8, handle_trap	/* lower EL: never used */
	trap	9, handle_trap
	trap	10, handle_trap
	trap	11, handle_trap
	trap	12, handle_trap
	trap	13, handle_trap
	trap	14, handle_trap
	trap	15, handle_trap
	.size vectors, . - vectors

	.global trap_common
	.type trap_common, %function
trap_common:
	stp	x2, x3, [sp, #16]
	stp	x4, x5, [sp, #32]
	stp	x6, x7, [sp, #48]
	stp	x8, x9, [sp, #64]
	stp	x10, x11, [sp, #80]
	stp	x12, x13, [sp, #96]
	stp	x14, x15, [sp, #112]
	stp	x16, x17, [sp, #128]
	stp	x18, x19, [sp, #144]
	stp	x20, x21, [sp, #160]
	stp	x22, x23, [sp, #176]
	stp	x24, x25, [sp, #192]
	stp	x26, x27, [sp, #208]
	stp	x28, x29, [sp, #224]
	add	x2, sp, #288
	stp	x30, x2, [sp, #240]
	mrs	x2, elr_el1
	mrs	x3, spsr_el1
	stp	x2, x3, [sp, #256]
	stp	x29, x2, [sp, #272]
	add	x29, sp, #272
	mov	x2, x0
	mov	x0, sp
	blr	x2
	ldp	x2, x3, [sp, #256]
	msr	elr_el1, x2
	msr	spsr_el1, x3
	ldp	x0, x1, [sp]
	ldp	x2, x3, [sp, #16]
	ldp	x4, x5, [sp, #32]
	ldp	x6, x7, [sp, #48]
	ldp	x8, x9, [sp, #64]
	ldp	x10, x11, [sp, #80]
	ldp	x12, x13, [sp, #96]
	ldp	x14, x15, [sp, #112]
	ldp	x16, x17, [sp, #128]
	ldp	x18, x19, [sp, #144]
	ldp	x20, x21, [sp, #160]
	ldp	x22, x23, [sp, #176]
	ldp	x24, x25, [sp, #192]
	ldp	x26, x27, [sp, #208]
	ldp	x28, x29, [sp, #224]
	ldr	x30, [sp, #240]
	add	sp, sp, #288
	eret
	.size trap_common, . - trap_common

/* void NAME(struct smccc_registers *r): x0..x17 from and to *r around `instruction`. */
	.macro conduit name, instruction
	.global \name
	.type \name, %function
\name:
	stp	x29, x30, [sp, #-32]!
	mov	x29, sp
	str	x0, [sp, #16]
	mov	x18, x0
	ldp	x2, x3, [x18, #16]
	ldp	x4, x5, [x18, #32]
	ldp	x6, x7, [x18, #48]
	ldp	x8, x9, [x18, #64]
	ldp	x10, x11, [x18, #80]
	ldp	x12, x13, [x18, #96]
	ldp	x14, x15, [x18, #112]
	ldp	x16, x17, [x18, #128]
	ldp	x0, x1, [x18]
	\instruction
	ldr	x18, [sp, #16]
	stp	x0, x1, [x18]
	stp	x2, x3, [x18, #16]
	stp	x4, x5, [x18, #32]
	stp	x6, x7, [x18, #48]
	stp	x8, x9, [x18, #64]
	stp	x10, x11, [x18, #80]
	stp	x12, x13, [x18, #96]
	stp	x14, x15, [x18, #112]
	stp	x16, x17, [x18, #128]
	ldp	x29, x30, [sp], #32
	ret
	.size \name, . - \name
	.endm

	conduit	hvc0, "hvc #0"
	conduit	hvc1, "hvc #1"
	conduit	smc0, "smc #0"

	.bss
	.balign 4096
boot_stack:
	.space	16384
	.size boot_stack, . - boot_stack
	.space	16
