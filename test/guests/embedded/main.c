/* The order of things. */
#include "guest.h"

volatile u64 spins;
static volatile u32 current_stage;

NOINLINE void stage(u32 number, const char *name)
{
	current_stage = number;
	print("STAGE %u %s\n", (u64)number, name);
}

void panic(const char *message, struct trap_frame *frame)
{
	__asm__ volatile("msr daifset, #15");
	print("PANIC %s\n", message);
	if (frame)
		print("PANIC pc %x, lr %x, esr %x, far %x\n", frame->elr, frame->x[30], read_sysreg(esr_el1), read_sysreg(far_el1));
	hyperv_report_crash(message, frame ? frame->elr : (u64)__builtin_return_address(0));
	power_off();
}

void handle_trap(struct trap_frame *frame, u64 kind)
{
	static bool again;

	/* A hypercall that fails while a crash is reported must not report another. */
	if (again)
		power_off();
	again = true;
	panic(kind == 4 ? "unexpected exception" : "unexpected exception vector", frame);
}

static void uart_irq(u32 intid)
{
	(void)intid;
	console_irq();
}

NOINLINE static void echo(void)
{
	print("ECHO ready, q ends\n");
	for (char c = console_getc(); c != 'q'; c = console_getc())
		console_putc(c);
	print("\nECHO done\n");
}

NOINLINE static void spin(void)
{
	for (;;)
		spins++;
}

void main(const void *fdt)
{
	u32 length;
	const void *property;
	bool connected = false;

	mmu_init();
	property = fdt_chosen(fdt, "bootargs", &length);
	if (property)
		command_line = property;
	property = fdt_chosen(fdt, "linux,uefi-system-table", &length);
	acpi_init(fdt_number(property, property ? length : 0));
	console_init(platform.uart);

	print("GUEST embedded kernel for Hyper-V on ARM64\n");
	print("GUEST command line: %s\n", command_line);
	print("GUEST MIDR %x, MPIDR %x, EL%u\n", read_sysreg(midr_el1), read_sysreg(mpidr_el1), read_sysreg(currentel) >> 2);
	print("ACPI %s; UART %x, GICD %x, GICR %x; PPIs: VMBus %u, timer %u\n", platform.is_hyperv ? "MsHyperV" : "not Hyper-V", platform.uart,
	      platform.gicd, platform.gicr, (u64)platform.vmbus_intid, (u64)platform.timer_intid);

	stage(1, "fixture");
	fixture_run();
	stage(2, "interrupts");
	gic_init();
	gic_enable(platform.uart_intid, false, uart_irq);
	__asm__ volatile("msr daifclr, #2");
	timer_check();
	stage(3, "psci");
	psci_check();
	efi_check();
	stage(4, "hyperv");
	if (hyperv_init()) {
		hyperv_conduits_check();
		reference_time_check();
		smp_check();
		stage(5, "synic");
		synic_init();
		stimer_check();
		stage(6, "vmbus");
		connected = vmbus_connect();
		if (connected)
			heartbeat_open();
	} else {
		print("HYPERV absent\n");
	}
	stage(7, "end");
	if (command_line_has("echo"))
		echo();
	if (command_line_has("panic"))
		panic("asked for on the command line", NULL);
	if (command_line_has("spin")) {
		smp_spin();
		spin();
	}
	if (connected) {
		heartbeat_close();
		vmbus_disconnect();
	}
	print("CHECKS %u passed, %u failed\n", (u64)checks_passed, (u64)checks_failed);
	print("GUEST-DONE\n");
	power_off();
}
