/*
 * Start of a benchmark program: EL1, MMU on (1 GiB blocks, identity), FP on, one stack; then `run`. Its result is compared with
 * `expected`; right ends with PSCI SYSTEM_OFF, wrong with SYSTEM_RESET. The same file runs on Hyperstep and on qemu -M virt.
 */
	.section .text.start, "ax"
	.global _start
_start:
	msr	daifset, #15
	mrs	x0, CurrentEL
	adrp	x1, stack + 65536
	mov	sp, x1
	mov	x0, #3 << 20
	msr	cpacr_el1, x0
	isb
	adrp	x0, __bss_start
	adrp	x1, __bss_end
1:	cmp	x0, x1
	b.hs	2f
	stp	xzr, xzr, [x0], #16
	b	1b
2:	adrp	x0, table
	ldr	x1, =0x00000000000711	/* block, AttrIndx 4: normal; AF, inner shareable */
	str	x1, [x0]
	ldr	x1, =0x00000040000711
	str	x1, [x0, #8]
	dsb	sy
	ldr	x1, =0xff00000000	/* MAIR: attribute 4 normal write-back */
	msr	mair_el1, x1
	ldr	x1, =0x00000002b5193519	/* T0SZ 25, 4 KiB, write-back, inner shareable, IPS 40; EPD1 below */
	orr	x1, x1, #1 << 23
	msr	tcr_el1, x1
	msr	ttbr0_el1, x0
	adr	x0, vectors
	msr	vbar_el1, x0
	isb
	tlbi	vmalle1
	dsb	sy
	isb
	mrs	x0, sctlr_el1
	mov	x1, #0x1005
	orr	x0, x0, x1
	bic	x0, x0, #2
	msr	sctlr_el1, x0
	isb
	bl	run
	ldr	x1, =EXPECTED
	cmp	x0, x1
	mov	w0, #8
	cinc	w0, w0, ne
	movk	w0, #0x8400, lsl #16
	hvc	#0
	b	.
	.ltorg

	.balign 2048
vectors:
	.rept 4
	.balign 128
	b	.
	.endr
	.balign 128		/* synchronous, current EL: SVC counts */
	add	x0, x0, #1
	eret
	.balign 128
	b	.

	.section .noinit, "aw", %nobits
	.balign 4096
table:	.skip 4096
stack:	.skip 65536
