	.text
	.globl	_start
	.type	_start, %function
_start:
	mov	x29, xzr
	mov	x0, #3
	bl	start
1:	wfi
	b	1b
	.size	_start, . - _start
