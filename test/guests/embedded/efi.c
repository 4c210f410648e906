/* Runtime services: UEFI 2.10 §8. */
#include "guest.h"

struct efi_time {
	u16 year;
	u8 month, day, hour, minute, second, padding1;
	u32 nanosecond;
	u16 time_zone;
	u8 daylight, padding2;
};

struct efi_time_capabilities {
	u32 resolution, accuracy;
	u8 sets_to_zero;
};

/* Those before and after the ones used here take part as plain addresses. */
struct efi_runtime_services {
	u8 header[24];
	u64 (*get_time)(struct efi_time *time, struct efi_time_capabilities *capabilities);
	u64 (*set_time)(const struct efi_time *time);
	u64 unused[4];
	u64 (*get_variable)(const u16 *name, const u8 *vendor, u32 *attributes, u64 *size, void *data);
};

#define EFI_INVALID_PARAMETER 0x8000000000000002ul
#define EFI_UNSUPPORTED 0x8000000000000003ul

void efi_check(void)
{
	const struct efi_runtime_services *runtime;
	struct efi_time_capabilities capabilities = { 0 };
	struct efi_time time = { 0 }, set = { 0 };
	u64 size = 0;

	if (!platform.system_table)
		return;
	/* EFI_SYSTEM_TABLE.RuntimeServices */
	runtime = *(const struct efi_runtime_services **)(platform.system_table + 88);
	check(runtime->get_time(&time, &capabilities) == 0 && capabilities.resolution == 1, "EFI GetTime");
	print("EFI time %u-%u-%u %u:%u:%u\n", (u64)time.year, (u64)time.month, (u64)time.day, (u64)time.hour, (u64)time.minute, (u64)time.second);
	set = time;
	set.year++;
	check(runtime->set_time(&set) == 0 && runtime->get_time(&set, NULL) == 0 && set.year == time.year + 1 && runtime->set_time(&time) == 0,
	      "EFI SetTime");
	check(runtime->get_time(NULL, NULL) == EFI_INVALID_PARAMETER, "EFI GetTime without a place to put it");
	check(runtime->get_variable(NULL, NULL, NULL, &size, NULL) == EFI_UNSUPPORTED, "EFI GetVariable is not supported and says so");
}
