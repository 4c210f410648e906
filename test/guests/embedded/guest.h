/* An embedded guest kernel for Hyper-V on ARM64. Section numbers refer to the reference hyperv-arm64.md. */
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;
typedef long s64;
typedef _Bool bool;
#define true 1
#define false 0
#define NULL ((void *)0)

#define PAGE_SIZE 4096
#define PAGE_ALIGNED __attribute__((aligned(PAGE_SIZE)))
#define NOINLINE __attribute__((noinline))
#define PACKED __attribute__((packed))

#define read_sysreg(name) ({ u64 v_; __asm__ volatile("mrs %0, " #name : "=r"(v_)); v_; })
#define write_sysreg(value, name) __asm__ volatile("msr " #name ", %0" ::"r"((u64)(value)))
#define isb() __asm__ volatile("isb" ::: "memory")
#define mb() __asm__ volatile("dsb sy" ::: "memory")

static inline u32 mmio_read32(u64 at) { return *(volatile u32 *)at; }
static inline void mmio_write32(u64 at, u32 v) { *(volatile u32 *)at = v; }

/* start.S */
struct trap_frame {
	u64 x[31];
	u64 sp;
	u64 elr;
	u64 spsr;
	/* A frame record, so that a stack walk leads through the exception. */
	u64 fp;
	u64 lr;
};
struct smccc_registers {
	u64 x[18];
};
void hvc0(struct smccc_registers *r);
void hvc1(struct smccc_registers *r);
void smc0(struct smccc_registers *r);
extern char vectors[];
extern char secondary_entry[];

/* console.c */
void console_init(u64 base);
void console_putc(char c);
/* %s string, %d signed, %u unsigned, %x hexadecimal with 0x, %c character; every number is 64 bits wide. */
void print(const char *format, ...);
/* A character typed on the console; sleeps until there is one. */
char console_getc(void);
void console_irq(void);
/* One line per finding; failures are counted. */
void check(bool ok, const char *what);
extern u32 checks_passed, checks_failed;

/* memory.c */
void mmu_init(void);
/* The same tables on another VP. */
void mmu_enable(void);
void *memset(void *to, int c, u64 n);
void *memcpy(void *to, const void *from, u64 n);
int memcmp(const void *a, const void *b, u64 n);
u64 strlen(const char *s);

/* fdt.c */
const void *fdt_chosen(const void *fdt, const char *property, u32 *length);
u64 fdt_number(const void *property, u32 length);
/* Is `word` among the words of the command line? */
bool command_line_has(const char *word);
extern const char *command_line;

/* acpi.c */
#define MAX_VPS 64
struct platform {
	u64 uart, gicd, gicr;
	u32 uart_intid, vmbus_intid, timer_intid;
	bool psci_hvc;
	bool is_hyperv;
	u64 system_table;
	u32 vp_count;
	u64 mpidr[MAX_VPS];
};
extern struct platform platform;
void acpi_init(u64 efi_system_table);

/* gic.c */
typedef void (*irq_handler)(u32 intid);
void gic_init(void);
void gic_enable(u32 intid, bool edge, irq_handler handler);
/* Sleeps until *flag is not zero or `microseconds` have passed; true when it became so. */
bool wait_for(volatile u64 *flag, u64 microseconds);
extern volatile u64 irq_counts[64];

/* time.c */
u64 counter(void);
u64 microseconds(void);
void timer_check(void);

/* psci.c */
u64 psci(u64 function, u64 a, u64 b, u64 c);
void power_off(void) __attribute__((noreturn));
void psci_check(void);

/* hyperv.c */
#define HV_REGISTER_HYPERVISOR_VERSION 0x100
#define HV_REGISTER_FEATURES 0x200
#define HV_REGISTER_ENLIGHTENMENTS 0x201
#define HV_REGISTER_CRASH_P0 0x210
#define HV_REGISTER_CRASH_CTL 0x215
#define HV_REGISTER_GUEST_OSID 0x90002
#define HV_REGISTER_VP_INDEX 0x90003
#define HV_REGISTER_TIME_REF_COUNT 0x90004
#define HV_REGISTER_REFERENCE_TSC 0x90017
#define HV_REGISTER_SINT0 0xa0000
#define HV_REGISTER_SCONTROL 0xa0010
#define HV_REGISTER_SIEFP 0xa0012
#define HV_REGISTER_SIMP 0xa0013
#define HV_REGISTER_EOM 0xa0014
#define HV_REGISTER_STIMER0_CONFIG 0xb0000
#define HV_REGISTER_STIMER0_COUNT 0xb0001

#define HVCALL_GET_VP_REGISTERS 0x50
#define HVCALL_SET_VP_REGISTERS 0x51
#define HVCALL_POST_MESSAGE 0x5c
#define HVCALL_SIGNAL_EVENT 0x5d

struct hv_value {
	u64 low, high;
};

/* The fields of Linux 6.12's struct of this name (§3.7), so that a debugger finds the same thing in both. */
struct ms_hyperv_info {
	u32 features;
	u32 priv_high;
	u32 ext_features;
	u32 misc_features;
	u32 hints;
	u32 nested_features;
	u32 max_vp_index;
	u32 max_lp_index;
	u8 vtl;
	u32 isolation_config_a;
	u32 isolation_config_b;
	u64 shared_gpa_boundary;
};
extern struct ms_hyperv_info ms_hyperv;

bool hyperv_init(void);
struct hv_value hv_get_vpreg(u32 name);
u64 hv_get_vpreg64(u32 name);
void hv_set_vpreg(u32 name, u64 value);
/* Status of a hypercall that takes its input from memory. */
u16 hv_do_hypercall(u64 control, const void *input, void *output);
u16 hv_do_fast_hypercall16(u64 control, u64 first, u64 second);
void hyperv_report_crash(const char *message, u64 pc);
void hyperv_conduits_check(void);
void reference_time_check(void);
void synic_init(void);
void stimer_check(void);

/* `handler` runs in the interrupt whenever event flag `flag` was set. */
void synic_on_event(u32 flag, void (*handler)(void));

/* vmbus.c */
bool vmbus_connect(void);
void vmbus_disconnect(void);
/* Called with each message of the host. */
void vmbus_message(const u8 *payload, u32 size);
/* The channel of an interface type, and the connection that signals it. */
bool vmbus_find(const u8 *type, u32 *relid, u32 *signal);
/* `rings`: four pages, the outgoing ring first. */
bool vmbus_open(u32 relid, void *rings);
bool vmbus_close(u32 relid);

/* heartbeat.c */
void heartbeat_open(void);
void heartbeat_close(void);

/* fixture.c */
void fixture_run(void);

/* efi.c */
void efi_check(void);

/* smp.c */
void smp_check(void);
/* Starts the other VPs again, to count in secondary_spin() for ever. */
void smp_spin(void);

/* main.c */
/* Called with the number of each stage as it begins: a good place for a breakpoint. */
void stage(u32 number, const char *name);
void panic(const char *message, struct trap_frame *frame) __attribute__((noreturn));
