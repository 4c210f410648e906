/*
 * What bare-metal test programs share: they start at EL1 with the MMU off and a device tree in x0, find everything by
 * that tree, print PASS and FAIL lines on its console and power off by PSCI. They run on any such machine.
 */
#ifndef BARE_H
#define BARE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t s64;

#define read_sysreg(name) ({ u64 v_; asm volatile("mrs %0, " #name : "=r"(v_) : : "memory"); v_; })
#define write_sysreg(name, value) do { u64 v_ = (u64)(value); asm volatile("msr " #name ", %0" : : "r"(v_) : "memory"); } while (0)
#define isb() asm volatile("isb" : : : "memory")
#define dsb() asm volatile("dsb sy" : : : "memory")
#define wfi() asm volatile("wfi" : : : "memory")
#define wfe() asm volatile("wfe" : : : "memory")
#define sev() asm volatile("sev" : : : "memory")
#define irq_on() asm volatile("msr daifclr, #2" : : : "memory")
#define irq_off() asm volatile("msr daifset, #2" : : : "memory")
/* The address of an instruction or datum as the linker knows it, with no page-relative arithmetic. */
#define HERE(label) ({ u64 v_; asm volatile("ldr %0, =" #label : "=r"(v_)); v_; })

static inline u32 read32(u64 at) { u32 v; asm volatile("ldr %w0, [%1]" : "=r"(v) : "r"(at) : "memory"); return v; }
static inline void write32(u64 at, u32 v) { asm volatile("str %w0, [%1]" : : "r"(v), "r"(at) : "memory"); }
static inline u64 read64(u64 at) { u64 v; asm volatile("ldr %0, [%1]" : "=r"(v) : "r"(at) : "memory"); return v; }
static inline void write64(u64 at, u64 v) { asm volatile("str %0, [%1]" : : "r"(v), "r"(at) : "memory"); }

void *memcpy(void *to, const void *from, size_t n);
void *memset(void *at, int value, size_t n);

/* --- the machine, from the device tree --- */
struct machine {
	u64 ram, ram_size;
	u64 uart, gicd, gicr;
	u32 cpus;
	u64 mpidr[MAX_VPS];
	u32 physical_timer, virtual_timer; /* INTIDs */
	bool smc;
	const char *bootargs;
};
extern struct machine machine;

/* --- results --- */
void print(const char *format, ...); /* %s %d %x %c only; %d and %x are 64 bits wide */
void check(bool ok, const char *name, ...);
/* PASS if got == want, else both are shown. */
void check_eq(u64 got, u64 want, const char *name, ...);
void skip(const char *name);

/* --- exceptions --- */
struct frame {
	u64 x[31], sp, elr, spsr, esr, far;
};
enum { SYNC = 0, IRQ = 1, FIQ = 2, SERROR = 3 };
/* The last synchronous exception of this VP. */
struct trap {
	u64 count, vector, esr, far, elr, spsr;
};
extern struct trap traps[MAX_VPS];
/* Called with interrupts masked; left out: an unexpected interrupt, which fails the program. */
extern void (*on_irq)(struct frame *);
/* Asked about synchronous exceptions first; true: done. Else the instruction is passed over (a branch's: it returns). */
extern bool (*on_sync)(struct frame *, u64 vector);

static inline u64 vp_index(void) { return read_sysreg(tpidr_el1); }
static inline struct trap *trap_of_vp(void) { return &traps[vp_index()]; }
#define EC(esr) (((esr) >> 26) & 0x3f)
#define ISS(esr) ((esr) & 0x1ffffff)
/* Runs a statement; its exception (or a zeroed record if there was none). */
#define TRAP_OF(statement) ({ struct trap *t_ = trap_of_vp(); *t_ = (struct trap){0}; asm volatile("" : : : "memory"); statement; asm volatile("" : : : "memory"); *t_; })
u64 run_el0(void *code, void *stack, u64 arg);
void el0_exit(void);
extern u64 el0_exit_at;
/* Code for EL0; it must not care where it is mapped. */
#define USER_CODE(name, code) \
	void name(void); \
	asm(".pushsection .text.user, \"ax\"\n.global " #name "\n" #name ": " code "\n ret\n.popsection")

/* --- PSCI and other VPs --- */
enum { PSCI_VERSION = 0x84000000, PSCI_CPU_OFF = 0x84000002, PSCI_CPU_ON = 0xc4000003, PSCI_AFFINITY_INFO = 0xc4000004,
	PSCI_SYSTEM_OFF = 0x84000008, PSCI_FEATURES = 0x8400000a };
u64 psci(u64 function, u64 a, u64 b, u64 c);
/* Runs `work`(index) on VP `vp`, which is switched off again when that returns. */
void start_vp(u32 vp, void (*work)(u64));
/* Waits until it is off. */
void wait_off(u32 vp);
void secondary_entry(void);

/* --- memory --- */
/* Identity map of the first 512 GiB: 1 GiB blocks, RAM Normal write-back, the rest Device; EL1 only. */
void mmu_on(void);
void mmu_off(void);
#define MAIR_NORMAL 0 /* index: write-back */
#define MAIR_DEVICE 1 /* nGnRE */
#define MAIR_NC 2
extern u64 identity[512];

void main(void);

#endif
