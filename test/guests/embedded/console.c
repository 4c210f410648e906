/* The PL011 console: Arm DDI 0183, chapter 3. */
#include "guest.h"

#define UARTDR 0x00
#define UARTFR 0x18
#define UARTIBRD 0x24
#define UARTFBRD 0x28
#define UARTLCR_H 0x2c
#define UARTCR 0x30
#define UARTIMSC 0x38
#define UARTICR 0x44
#define FR_RXFE (1 << 4)
#define FR_TXFF (1 << 5)
#define LCR_8BIT_FIFO 0x70
#define CR_UARTEN_TXE_RXE 0x301
#define INT_RX_RT ((1 << 4) | (1 << 6))

static u64 uart;
static u8 typed[256];
static volatile u32 typed_in, typed_out;
u32 checks_passed, checks_failed;

void console_init(u64 base)
{
	uart = base;
	mmio_write32(uart + UARTCR, 0);
	mmio_write32(uart + UARTICR, 0x7ff);
	mmio_write32(uart + UARTIBRD, 13); /* 115200 from 24 MHz */
	mmio_write32(uart + UARTFBRD, 1);
	mmio_write32(uart + UARTLCR_H, LCR_8BIT_FIFO);
	mmio_write32(uart + UARTCR, CR_UARTEN_TXE_RXE);
	mmio_write32(uart + UARTIMSC, INT_RX_RT);
}

void console_irq(void)
{
	while (!(mmio_read32(uart + UARTFR) & FR_RXFE)) {
		typed[typed_in % sizeof(typed)] = (u8)mmio_read32(uart + UARTDR);
		typed_in++;
	}
	mmio_write32(uart + UARTICR, INT_RX_RT);
}

char console_getc(void)
{
	/* Masked, so that no interrupt can come between the test and the WFI. */
	__asm__ volatile("msr daifset, #2");
	while (typed_out == typed_in)
		__asm__ volatile("wfi\n\tmsr daifclr, #2\n\tisb\n\tmsr daifset, #2" ::: "memory");
	__asm__ volatile("msr daifclr, #2" ::: "memory");
	return (char)typed[typed_out++ % sizeof(typed)];
}

void console_putc(char c)
{
	if (c == '\n')
		console_putc('\r');
	while (mmio_read32(uart + UARTFR) & FR_TXFF)
		;
	mmio_write32(uart + UARTDR, (u8)c);
}

static void print_number(u64 value, u32 base)
{
	char digits[24];
	u32 n = 0;

	do {
		digits[n++] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	while (n)
		console_putc(digits[--n]);
}

void print(const char *format, ...)
{
	__builtin_va_list args;

	__builtin_va_start(args, format);
	for (const char *p = format; *p; p++) {
		if (*p != '%') {
			console_putc(*p);
			continue;
		}
		p++;
		if (*p == 's') {
			for (const char *s = __builtin_va_arg(args, const char *); *s; s++)
				console_putc(*s);
		} else if (*p == 'c') {
			console_putc((char)__builtin_va_arg(args, u64));
		} else if (*p == 'x') {
			print("0x");
			print_number(__builtin_va_arg(args, u64), 16);
		} else if (*p == 'u') {
			print_number(__builtin_va_arg(args, u64), 10);
		} else if (*p == 'd') {
			s64 v = __builtin_va_arg(args, s64);

			if (v < 0)
				console_putc('-');
			print_number(v < 0 ? -(u64)v : (u64)v, 10);
		} else {
			console_putc(*p);
		}
	}
	__builtin_va_end(args);
}

void check(bool ok, const char *what)
{
	if (ok)
		checks_passed++;
	else
		checks_failed++;
	print("%s: %s\n", what, ok ? "ok" : "FAILED");
}
