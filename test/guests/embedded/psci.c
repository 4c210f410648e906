/* PSCI (Arm DEN 0022) and SMCCC (DEN 0028), by the conduit that the FADT names; the other one has to work as well. */
#include "guest.h"

#define PSCI_VERSION 0x84000000
#define PSCI_SYSTEM_OFF 0x84000008
#define PSCI_FEATURES 0x8400000a
#define SMCCC_VERSION 0x80000000
#define SMCCC_VENDOR_HYP_UID 0x8600ff01
#define NOT_SUPPORTED 0xfffffffful

static struct smccc_registers call(bool by_hvc, u64 function, u64 a, u64 b, u64 c)
{
	struct smccc_registers r = { .x = { function, a, b, c } };

	/* What SMCCC 1.1 says survives a call. */
	for (u32 i = 4; i < 18; i++)
		r.x[i] = 0x1111111111111111ul * i;
	if (by_hvc)
		hvc0(&r);
	else
		smc0(&r);
	return r;
}

u64 psci(u64 function, u64 a, u64 b, u64 c)
{
	return call(platform.psci_hvc, function, a, b, c).x[0];
}

void power_off(void)
{
	psci(PSCI_SYSTEM_OFF, 0, 0, 0);
	for (;;)
		__asm__ volatile("wfi");
}

void psci_check(void)
{
	u64 version = psci(PSCI_VERSION, 0, 0, 0), smccc = psci(SMCCC_VERSION, 0, 0, 0);

	print("PSCI %u.%u by %s, SMCCC %u.%u\n", version >> 16, version & 0xffff, platform.psci_hvc ? "HVC" : "SMC", smccc >> 16,
	      smccc & 0xffff);
	check(version >= 0x10000 && psci(PSCI_FEATURES, PSCI_SYSTEM_OFF, 0, 0) == 0, "PSCI version and features");
	for (u32 by_hvc = 0; by_hvc < 2; by_hvc++) {
		struct smccc_registers uid = call(by_hvc, SMCCC_VENDOR_HYP_UID, 0, 0, 0);
		bool kept = true;

		for (u32 i = 4; i < 18; i++)
			kept = kept && uid.x[i] == 0x1111111111111111ul * i;
		print("SMCCC vendor hypervisor UID by %s: %x %x %x %x\n", by_hvc ? "HVC" : "SMC", uid.x[0], uid.x[1], uid.x[2], uid.x[3]);
		/* §1.1 */
		check(uid.x[0] == 0x4d32ba58 && uid.x[1] == 0xcd244764 && uid.x[2] == 0x8eef6c75 && uid.x[3] == 0x16597024,
		      "SMCCC UID is Hyper-V's");
		check(kept, "SMCCC x4..x17 kept");
		check((call(by_hvc, 0x8400ff77, 0, 0, 0).x[0] & 0xffffffff) == NOT_SUPPORTED, "SMCCC unknown function refused");
	}
}
