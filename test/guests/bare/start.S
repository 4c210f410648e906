/* Entry, exception vectors, and the way to EL0 and back. Nothing here knows where it was loaded, or on what machine. */

	.section .text.start, "ax"
	.global _start
_start:
	b	1f
	.long	0
	.quad	0, 0, 0, 0, 0, 0	/* no Image header: a flat binary */
	.quad	0
1:	mov	x19, x0
	ldr	x1, =stacks + STACK_SIZE
	mov	sp, x1
	msr	tpidr_el1, xzr
	ldr	x1, =vectors
	msr	vbar_el1, x1
	isb
	ldr	x1, =__bss_start
	ldr	x2, =__bss_end
2:	cmp	x1, x2
	b.hs	3f
	stp	xzr, xzr, [x1], #16
	b	2b
3:	mov	x0, x19
	bl	bare_main
	b	.

/* PSCI CPU_ON: x0 = index of the VP. */
	.global secondary_entry
secondary_entry:
	msr	tpidr_el1, x0
	ldr	x1, =stacks + STACK_SIZE
	mov	x2, #STACK_SIZE
	madd	x1, x0, x2, x1
	mov	sp, x1
	ldr	x1, =vectors
	msr	vbar_el1, x1
	isb
	bl	bare_secondary
	b	.
	.ltorg

	.text
/* struct frame (bare.h): x0..x30, sp, elr, spsr, esr, far. */
	.macro vector number
	.balign 128
	sub	sp, sp, #288
	stp	x0, x1, [sp]
	mov	x1, #\number
	b	trap_entry
	.endm

	.balign 2048
	.global vectors
vectors:
	.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	vector	\n
	.endr

trap_entry:
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
	mrs	x2, esr_el1
	mrs	x3, far_el1
	stp	x2, x3, [sp, #272]
	mov	x0, sp
	bl	bare_trap
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

/* u64 run_el0(void *code, void *stack, u64 arg): `code`(arg) at EL0, and what it returns. */
	.global run_el0
run_el0:
	stp	x29, x30, [sp, #-96]!
	stp	x19, x20, [sp, #16]
	stp	x21, x22, [sp, #32]
	stp	x23, x24, [sp, #48]
	stp	x25, x26, [sp, #64]
	stp	x27, x28, [sp, #80]
	ldr	x3, =el0_return
	mrs	x4, tpidr_el1
	mov	x5, sp
	str	x5, [x3, x4, lsl #3]
	msr	sp_el0, x1
	msr	elr_el1, x0
	mov	x4, #0x3c0
	msr	spsr_el1, x4
	mov	x0, x2
	ldr	x30, =el0_exit_at
	ldr	x30, [x30]
	eret
	.global el0_back
el0_back:
	ldr	x3, =el0_return
	mrs	x4, tpidr_el1
	ldr	x5, [x3, x4, lsl #3]
	mov	sp, x5
	ldp	x19, x20, [sp, #16]
	ldp	x21, x22, [sp, #32]
	ldp	x23, x24, [sp, #48]
	ldp	x25, x26, [sp, #64]
	ldp	x27, x28, [sp, #80]
	ldp	x29, x30, [sp], #96
	ret

/* u64 psci(u64 function, u64 a, u64 b, u64 c), by either conduit. */
	.global psci_hvc, psci_smc
psci_hvc:
	hvc	#0
	ret
psci_smc:
	smc	#0
	ret
	.ltorg

/* Code that programs run at EL0, in a page of its own. */
	.section .text.user, "ax"
	.balign 4096
	.global el0_exit
el0_exit:
	svc	#0xe0

	.data
	.balign 8
	.global el0_exit_at
el0_exit_at:	/* where EL0 sees el0_exit */
	.quad	el0_exit

	.bss
	.balign 4096
	.global stacks
stacks:
	.space	STACK_SIZE * MAX_VPS
el0_return:
	.space	8 * MAX_VPS
