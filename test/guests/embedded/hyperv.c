/* The hypervisor: hypercalls, VP registers, SynIC, synthetic timer, reference time. */
#include "guest.h"

#define HV_FAST (1ul << 16)
#define HV_REP_ONE (1ul << 32)
#define HV_STATUS(result) ((u16)(result))
#define HV_REPS_DONE(result) ((result) >> 32 & 0xfff)
#define HV_PARTITION_SELF (~0ul)
#define HV_VP_SELF 0xfffffffeul
#define HVC0_HYPERCALL 0x46000001ul

/* Open source bit, operating system type 0x7f (none of the known ones), version 1. */
#define GUEST_OS_ID 0xff00000000010000ul

/* SINT2 carries VMBus messages and events (§6). */
#define VMBUS_SINT 2
/* The interrupt of stimers in direct mode; firmware uses the same (§5.3). */
#define STIMER_INTID 17

struct ms_hyperv_info ms_hyperv;

struct synic_message {
	u32 type;
	u8 payload_size, flags;
	u16 reserved;
	u64 sender;
	u8 payload[240];
};

static struct synic_message message_page[16] PAGE_ALIGNED;
static u64 event_flags_page[PAGE_SIZE / 8] PAGE_ALIGNED;
static struct reference_tsc {
	u32 sequence, reserved;
	u64 scale;
	s64 offset;
	u64 rest[PAGE_SIZE / 8 - 3];
} reference_tsc PAGE_ALIGNED;

static struct {
	u64 partition;
	u32 vp, vtl;
	u32 name, padding;
} get_input __attribute__((aligned(64)));
static struct hv_value get_output __attribute__((aligned(16)));
static char crash_message[PAGE_SIZE] PAGE_ALIGNED;

u16 hv_do_hypercall(u64 control, const void *input, void *output)
{
	struct smccc_registers r = { .x = { HVC0_HYPERCALL, control, (u64)input, (u64)output } };

	hvc0(&r);
	return HV_STATUS(r.x[0]);
}

u16 hv_do_fast_hypercall16(u64 control, u64 first, u64 second)
{
	struct smccc_registers r = { .x = { HVC0_HYPERCALL, control | HV_FAST, first, second } };

	hvc0(&r);
	return HV_STATUS(r.x[0]);
}

/* HVC #0: input in x2.., output in the pairs after it (§2.1). */
static u64 get_smccc(u32 name, struct hv_value *value)
{
	struct smccc_registers r = {
		.x = { HVC0_HYPERCALL, HVCALL_GET_VP_REGISTERS | HV_FAST | HV_REP_ONE, HV_PARTITION_SELF, HV_VP_SELF, name }
	};

	hvc0(&r);
	*value = (struct hv_value){ r.x[6], r.x[7] };
	return r.x[0];
}

/* HVC #1: input in x1.., output in x15 and x16. */
static u64 get_raw(u32 name, struct hv_value *value)
{
	struct smccc_registers r = {
		.x = { HVCALL_GET_VP_REGISTERS | HV_FAST | HV_REP_ONE, HV_PARTITION_SELF, HV_VP_SELF, name }
	};

	hvc1(&r);
	*value = (struct hv_value){ r.x[15], r.x[16] };
	return r.x[0];
}

/* Through memory: input block, output block. */
static u64 get_memory(u32 name, struct hv_value *value)
{
	struct smccc_registers r = {
		.x = { HVC0_HYPERCALL, HVCALL_GET_VP_REGISTERS | HV_REP_ONE, (u64)&get_input, (u64)&get_output }
	};

	get_input.partition = HV_PARTITION_SELF;
	get_input.vp = HV_VP_SELF;
	get_input.vtl = 0;
	get_input.name = name;
	hvc0(&r);
	*value = get_output;
	return r.x[0];
}

struct hv_value hv_get_vpreg(u32 name)
{
	struct hv_value value;
	u64 result = get_smccc(name, &value);

	if (HV_STATUS(result) != 0)
		panic("HvCallGetVpRegisters failed", NULL);
	return value;
}

u64 hv_get_vpreg64(u32 name)
{
	return hv_get_vpreg(name).low;
}

void hv_set_vpreg(u32 name, u64 value)
{
	struct smccc_registers r = {
		.x = { HVC0_HYPERCALL, HVCALL_SET_VP_REGISTERS | HV_FAST | HV_REP_ONE, HV_PARTITION_SELF, HV_VP_SELF, name, 0, value, 0 }
	};

	hvc0(&r);
	if (HV_STATUS(r.x[0]) != 0)
		panic("HvCallSetVpRegisters failed", NULL);
}

bool hyperv_init(void)
{
	struct hv_value v;
	u64 os_id;

	if (!platform.is_hyperv)
		return false;
	hv_set_vpreg(HV_REGISTER_GUEST_OSID, GUEST_OS_ID);
	os_id = hv_get_vpreg64(HV_REGISTER_GUEST_OSID);
	print("HYPERV guest OS id %x\n", os_id);
	check(os_id == GUEST_OS_ID, "HYPERV guest OS id written and read back");

	v = hv_get_vpreg(HV_REGISTER_FEATURES);
	ms_hyperv.features = (u32)v.low;
	ms_hyperv.priv_high = (u32)(v.low >> 32);
	ms_hyperv.misc_features = (u32)v.high;
	ms_hyperv.hints = (u32)hv_get_vpreg(HV_REGISTER_ENLIGHTENMENTS).low;
	print("HYPERV privilege flags low %x, high %x, hints %x, misc %x\n", (u64)ms_hyperv.features, (u64)ms_hyperv.priv_high,
	      (u64)ms_hyperv.hints, (u64)ms_hyperv.misc_features);

	v = hv_get_vpreg(HV_REGISTER_HYPERVISOR_VERSION);
	print("HYPERV host build %u.%u.%u.%u-%u-%u\n", v.low >> 48, v.low >> 32 & 0xffff, v.low & 0xffffffff, v.high >> 32 & 0xffffff,
	      v.high & 0xffffffff, v.high >> 56);
	print("HYPERV VP index %u\n", hv_get_vpreg64(HV_REGISTER_VP_INDEX));
	check(hv_get_vpreg64(HV_REGISTER_VP_INDEX) == (read_sysreg(mpidr_el1) & 0xff), "HYPERV VP index");
	return true;
}

void hyperv_conduits_check(void)
{
	static const u32 names[] = { HV_REGISTER_HYPERVISOR_VERSION, HV_REGISTER_FEATURES, HV_REGISTER_GUEST_OSID, HV_REGISTER_VP_INDEX };
	bool same = true, done = true;
	u8 block[32] __attribute__((aligned(8))) = { 0 };

	for (u32 i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct hv_value a, b, c;
		u64 smccc = get_smccc(names[i], &a), raw = get_raw(names[i], &b), memory = get_memory(names[i], &c);

		same = same && a.low == b.low && a.high == b.high && a.low == c.low && a.high == c.high;
		done = done && smccc == HV_REP_ONE && raw == HV_REP_ONE && memory == HV_REP_ONE;
		print("HYPERCALL register %x: HVC #0 %x:%x, HVC #1 %x:%x, memory %x:%x\n", (u64)names[i], a.high, a.low, b.high, b.low, c.high,
		      c.low);
	}
	check(same, "HYPERCALL both conduits and the memory form agree");
	check(done, "HYPERCALL result says one repetition done");
	/* §2.4 */
	check(hv_do_hypercall(0x7fff, NULL, NULL) == 2, "HYPERCALL unknown code: HV_STATUS_INVALID_HYPERCALL_CODE");
	check(hv_do_hypercall(HVCALL_GET_VP_REGISTERS, &get_input, &get_output) == 3, "HYPERCALL no repetitions: HV_STATUS_INVALID_HYPERCALL_INPUT");
	check(hv_do_hypercall(HVCALL_SIGNAL_EVENT, block + 4, NULL) == 4, "HYPERCALL unaligned input: HV_STATUS_INVALID_ALIGNMENT");
	check(hv_do_fast_hypercall16(HVCALL_SIGNAL_EVENT, 0x777777, 0) == 0x12, "HYPERCALL unknown connection: HV_STATUS_INVALID_CONNECTION_ID");
}

static u64 tsc_page_time(void)
{
	volatile struct reference_tsc *page = &reference_tsc;
	u32 sequence;
	u64 time;

	do {
		sequence = page->sequence;
		mb();
		time = (u64)((unsigned __int128)counter() * page->scale >> 64) + (u64)page->offset;
		mb();
	} while (sequence != page->sequence);
	return time;
}

void reference_time_check(void)
{
	bool ordered = true;

	hv_set_vpreg(HV_REGISTER_REFERENCE_TSC, (u64)&reference_tsc | 1);
	print("REFERENCE TSC page: sequence %u, scale %x, offset %d\n", (u64)reference_tsc.sequence, reference_tsc.scale, reference_tsc.offset);
	check(reference_tsc.sequence != 0, "REFERENCE TSC page valid");
	for (u32 i = 0; i < 8; i++) {
		u64 before = hv_get_vpreg64(HV_REGISTER_TIME_REF_COUNT);
		u64 between = tsc_page_time();
		u64 after = hv_get_vpreg64(HV_REGISTER_TIME_REF_COUNT);

		/* Either way of reading may round down by one unit. */
		if (before > between + 1 || between > after + 1)
			ordered = false;
		if (i == 0)
			print("REFERENCE counter %u, page %u, counter %u (100 ns)\n", before, between, after);
	}
	check(ordered, "REFERENCE TSC page agrees with the reference counter");
}

/* One channel is all this guest opens. */
static u32 event_flag;
static void (*event_handler)(void);

void synic_on_event(u32 flag, void (*handler)(void))
{
	event_flag = flag;
	event_handler = handler;
}

/* Clears the flag of our channel in the area of SINT2 (§6.3); was it set? */
static bool take_event(void)
{
	u64 *word = &event_flags_page[VMBUS_SINT * 256 / 8 + event_flag / 64];
	u64 bit = 1ul << event_flag % 64;

	return __atomic_fetch_and(word, ~bit, __ATOMIC_ACQ_REL) & bit;
}

static void vmbus_irq(u32 intid)
{
	volatile struct synic_message *slot = &message_page[VMBUS_SINT];
	u8 payload[240];
	u32 size;

	(void)intid;
	if (event_handler && take_event())
		event_handler();
	/* One message per slot; more may come after each EOM (§6.2). */
	while (slot->type != 0) {
		mb();
		size = slot->payload_size;
		for (u32 i = 0; i < sizeof(payload); i++)
			payload[i] = i < size ? slot->payload[i] : 0;
		if (slot->type == 1)
			vmbus_message(payload, size);
		slot->type = 0;
		mb();
		if (slot->flags & 1)
			hv_set_vpreg(HV_REGISTER_EOM, 0);
		else
			break;
	}
}

void synic_init(void)
{
	hv_set_vpreg(HV_REGISTER_SIMP, (u64)message_page | 1);
	hv_set_vpreg(HV_REGISTER_SIEFP, (u64)event_flags_page | 1);
	gic_enable(platform.vmbus_intid, true, vmbus_irq);
	hv_set_vpreg(HV_REGISTER_SINT0 + VMBUS_SINT, platform.vmbus_intid);
	hv_set_vpreg(HV_REGISTER_SCONTROL, hv_get_vpreg64(HV_REGISTER_SCONTROL) | 1);
	print("SYNIC message page %x, event flags page %x, SINT2 %x\n", hv_get_vpreg64(HV_REGISTER_SIMP), hv_get_vpreg64(HV_REGISTER_SIEFP),
	      hv_get_vpreg64(HV_REGISTER_SINT0 + VMBUS_SINT));
	check(hv_get_vpreg64(HV_REGISTER_SIMP) == ((u64)message_page | 1) && hv_get_vpreg64(HV_REGISTER_SIEFP) == ((u64)event_flags_page | 1) &&
		      hv_get_vpreg64(HV_REGISTER_SINT0 + VMBUS_SINT) == platform.vmbus_intid,
	      "SYNIC registers read back");
}

static volatile u64 expirations, enough_expirations;
#define WANTED 5

static void stimer_irq(u32 intid)
{
	(void)intid;
	if (++expirations == WANTED) {
		hv_set_vpreg(HV_REGISTER_STIMER0_CONFIG, 0);
		enough_expirations = 1;
	}
}

void stimer_check(void)
{
	/* §5.3: enabled, periodic, direct mode with this INTID; the period is 1 ms in 100 ns units. */
	u64 config = 1 | 2 | STIMER_INTID << 4 | 1 << 12;
	u64 before, passed;

	gic_enable(STIMER_INTID, true, stimer_irq);
	before = hv_get_vpreg64(HV_REGISTER_TIME_REF_COUNT);
	hv_set_vpreg(HV_REGISTER_STIMER0_COUNT, 10000);
	hv_set_vpreg(HV_REGISTER_STIMER0_CONFIG, config);
	wait_for(&enough_expirations, 100000);
	passed = hv_get_vpreg64(HV_REGISTER_TIME_REF_COUNT) - before;
	print("STIMER direct mode, PPI %u: %u expirations in %u us\n", (u64)STIMER_INTID, expirations, passed / 10);
	check(expirations == WANTED && passed >= WANTED * 10000 && passed < (WANTED + 1) * 10000, "STIMER period of 1 ms");
}

void hyperv_report_crash(const char *message, u64 pc)
{
	u64 length = strlen(message);

	if (!platform.is_hyperv)
		return;
	memcpy(crash_message, message, length < PAGE_SIZE ? length : PAGE_SIZE);
	/* §10.1: P3 and P4 name a message; bits 63 and 62 of the control register report crash and message. */
	hv_set_vpreg(HV_REGISTER_CRASH_P0, 0xc0ffee);
	hv_set_vpreg(HV_REGISTER_CRASH_P0 + 1, GUEST_OS_ID);
	hv_set_vpreg(HV_REGISTER_CRASH_P0 + 2, pc);
	hv_set_vpreg(HV_REGISTER_CRASH_P0 + 3, (u64)crash_message);
	hv_set_vpreg(HV_REGISTER_CRASH_P0 + 4, length);
	hv_set_vpreg(HV_REGISTER_CRASH_CTL, 3ul << 62);
}
