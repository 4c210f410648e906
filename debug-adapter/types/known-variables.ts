/**
 * Types of global variables that BTF does not tell: pahole put only per-CPU variables into it before version 1.29 (2025). Read
 * last: what DWARF or BTF says of a variable comes first. Types are looked up by name in the kernel at hand, so an entry
 * whose type the kernel does not have is as good as none.
 *
 * One row per variable: its name, its type as C writes it (a name, stars, one array bound; `[]` for one of unknown length).
 * Declared in the header or file that is named above the row.
 */
export const KNOWN_VARIABLES: Readonly<Record<string, string>> = {
  // include/linux/sched/task.h, init/init_task.c
  init_task: 'struct task_struct',
  init_nsproxy: 'struct nsproxy',
  init_mm: 'struct mm_struct',
  init_cred: 'struct cred',
  init_pid_ns: 'struct pid_namespace',
  init_user_ns: 'struct user_namespace',
  init_uts_ns: 'struct uts_namespace',
  init_net: 'struct net',
  init_struct_pid: 'struct pid',
  root_task_group: 'struct task_group',
  // include/linux/jiffies.h, kernel/time/
  jiffies: 'unsigned long',
  jiffies_64: 'u64',
  loops_per_jiffy: 'unsigned long',
  tick_period: 'ktime_t',
  // include/linux/kernel.h, init/main.c
  system_state: 'enum system_states',
  saved_command_line: 'char *',
  boot_command_line: 'char []',
  linux_banner: 'char []',
  linux_proc_banner: 'char []',
  panic_timeout: 'int',
  panic_on_oops: 'int',
  oops_in_progress: 'int',
  // include/linux/cpumask.h, include/linux/percpu.h
  nr_cpu_ids: 'unsigned int',
  __cpu_possible_mask: 'struct cpumask',
  __cpu_online_mask: 'struct cpumask',
  __cpu_present_mask: 'struct cpumask',
  __cpu_active_mask: 'struct cpumask',
  __num_online_cpus: 'atomic_t',
  __per_cpu_offset: 'unsigned long []',
  __cpu_logical_map: 'u64 []',
  // arch/arm64/include/asm/memory.h
  memstart_addr: 's64',
  kimage_voffset: 'u64',
  high_memory: 'void *',
  vabits_actual: 'u64',
  swapper_pg_dir: 'pgd_t []',
  // include/linux/mm.h, mm/
  _totalram_pages: 'atomic_long_t',
  totalreserve_pages: 'unsigned long',
  max_mapnr: 'unsigned long',
  contig_page_data: 'struct pglist_data',
  node_data: 'struct pglist_data * []',
  slab_caches: 'struct list_head',
  vmap_area_list: 'struct list_head',
  vmap_area_root: 'struct rb_root',
  // include/linux/module.h, kernel/module/main.c
  modules: 'struct list_head',
  // include/linux/fs.h, net/
  super_blocks: 'struct list_head',
  net_namespace_list: 'struct list_head',
  // include/linux/ioport.h
  iomem_resource: 'struct resource',
  ioport_resource: 'struct resource',
  // kernel/workqueue.c, kernel/printk/printk.c
  workqueues: 'struct list_head',
  system_wq: 'struct workqueue_struct *',
  console_drivers: 'struct console *',
  prb: 'struct printk_ringbuffer *',
  // kernel/rcu/tree.c
  rcu_state: 'struct rcu_state',
  // drivers/acpi
  acpi_gbl_FADT: 'struct acpi_table_fadt',
  acpi_disabled: 'int',
  // include/asm-generic/mshyperv.h, drivers/hv/hyperv_vmbus.h
  ms_hyperv: 'struct ms_hyperv_info',
  hv_vp_index: 'u32 *',
  hv_max_vp_index: 'u32',
  hyperv_pcpu_input_arg: 'void * *',
  hv_context: 'struct hv_context',
  vmbus_connection: 'struct vmbus_connection',
  vmbus_proto_version: 'u32',
};
