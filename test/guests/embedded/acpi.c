/* What the EFI system table leads to: ACPI 6.4 §5.2, UEFI 2.10 §4.3 and §4.6. */
#include "guest.h"

struct efi_system_table {
	u8 header[24];
	u64 firmware_vendor;
	u32 firmware_revision;
	u32 padding;
	u64 consoles[6];
	u64 runtime, boot;
	u64 table_count;
	const struct efi_configuration_table {
		u8 guid[16];
		u64 table;
	} *tables;
};

struct acpi_table {
	char signature[4];
	u32 length;
	u8 revision, checksum;
	char oem_id[6], oem_table_id[8];
	u32 oem_revision, creator_id, creator_revision;
} PACKED;

static const u8 acpi20_guid[16] = { 0x71, 0xe8, 0x68, 0x88, 0xf1, 0xe4, 0xd3, 0x11, 0xbc, 0x22, 0x00, 0x80, 0xc7, 0x3c, 0x88, 0x81 };

/* Until ACPI says otherwise: this platform's own addresses (§7.1). */
struct platform platform = {
	.uart = 0xeffec000,
	.gicd = 0xffff0000,
	.gicr = 0xeffee000,
	.uart_intid = 33,
	.vmbus_intid = 18,
	.timer_intid = 20,
};

static u64 read64(const u8 *p)
{
	u64 v;

	memcpy(&v, p, 8);
	return v;
}

static u32 read32(const u8 *p)
{
	u32 v;

	memcpy(&v, p, 4);
	return v;
}

/* The interrupt of the VMBus device: the extended interrupt descriptor (tag 0x89, 6 bytes) behind the name VMBS. */
static void scan_dsdt(const u8 *dsdt)
{
	u32 length = ((const struct acpi_table *)dsdt)->length;
	bool in_vmbus = false;

	for (u32 i = 36; i + 9 <= length; i++) {
		if (memcmp(dsdt + i, "VMBS", 4) == 0)
			in_vmbus = true;
		else if (in_vmbus && dsdt[i] == 0x89 && dsdt[i + 1] == 6 && dsdt[i + 2] == 0) {
			platform.vmbus_intid = read32(dsdt + i + 5);
			return;
		}
	}
}

static void scan_madt(const u8 *madt, u32 length)
{
	for (u32 i = 44; i + 2 <= length && madt[i + 1]; i += madt[i + 1]) {
		if (madt[i] == 12) {
			platform.gicd = read64(madt + i + 8);
		} else if (madt[i] == 11 && platform.vp_count < MAX_VPS) {
			if (platform.vp_count == 0)
				platform.gicr = read64(madt + i + 60);
			platform.mpidr[platform.vp_count++] = read64(madt + i + 68);
		}
	}
}

void acpi_init(u64 efi_system_table)
{
	const struct efi_system_table *system = (const void *)efi_system_table;
	const u8 *rsdp = NULL;

	if (!system)
		return;
	platform.system_table = efi_system_table;
	for (u64 i = 0; i < system->table_count; i++)
		if (memcmp(system->tables[i].guid, acpi20_guid, 16) == 0)
			rsdp = (const u8 *)system->tables[i].table;
	if (!rsdp)
		return;
	const u8 *xsdt = (const u8 *)read64(rsdp + 24);
	for (u32 i = 36; i + 8 <= read32(xsdt + 4); i += 8) {
		const u8 *table = (const u8 *)read64(xsdt + i);
		u32 length = read32(table + 4);

		if (memcmp(table, "FACP", 4) == 0) {
			platform.is_hyperv = length >= 276 && memcmp(table + 268, "MsHyperV", 8) == 0;
			platform.psci_hvc = (table[129] & 2) != 0;
			scan_dsdt((const u8 *)read64(table + 140));
		} else if (memcmp(table, "APIC", 4) == 0) {
			scan_madt(table, length);
		} else if (memcmp(table, "SPCR", 4) == 0) {
			platform.uart = read64(table + 44);
			platform.uart_intid = read32(table + 54);
		} else if (memcmp(table, "GTDT", 4) == 0) {
			platform.timer_intid = read32(table + 64);
		}
	}
}
