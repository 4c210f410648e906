/**
 * Our launch arguments, custom requests and events: types only, shared by the adapter and the extension.
 * Every custom request is named `hyperstep/...`. Values that may exceed 2^53 travel as `0x...` text.
 */

/** launch.json, after the extension's defaults. */
export interface LaunchArguments {
  kernel: string;
  initrd?: string;
  append?: string;
  /** MiB. */
  memory?: number;
  cpus?: number;
  cpu?: string;
  /** `hyperv` (default) or `device-tree`. */
  boot?: string;
  /** With `device-tree`: address of the program, `0x...`. */
  load?: string;
  /** The host that the guest sees: a name of emulator/personalities.ts. */
  platform?: string;
  /** Single facts of it that are different, by name. */
  platformOverrides?: Record<string, boolean | number | string | (number | string)[]>;
  /** Newest VMBus version that the host speaks: `5.2`. */
  vmbusVersion?: string;
  /** The guest signals its disks and network by monitor pages. Default false. */
  monitorPages?: boolean;
  stopOnEntry?: boolean;
  /** TLFS names or codes (`HvCallPostMessage`, `0x5c`). */
  stopOnHypercalls?: string[];
  /** Stop when the guest reports a crash. Default true. */
  stopOnCrash?: boolean;
  /** Tasks that no VP runs are threads as well, after the VPs. Default false. */
  tasksAsThreads?: boolean;
  /** Steps move only the VP that steps. Default: the others go on meanwhile. */
  singleThread?: boolean;
  /** A file that gets the whole console as well. */
  consoleLog?: string;
  /** Events to trace: kinds of the trace, `vmbus` or `all`. They go to the Debug Console, or to `traceFile`. */
  trace?: string[];
  /** A file for them: JSON lines, or for a timeline viewer if it ends in .json. Without `trace` it gets all. */
  traceFile?: string;
  /** Disks of the guest, LUN 0 first. */
  disks?: DiskSetting[];
  /** The guest's network card. Left out: it has none. */
  network?: NetworkSetting;
  /** The guest's Hyper-V sockets (AF_VSOCK). Left out: the host refuses every connection. */
  sockets?: SocketsSetting;
  /** Resolution of the synthetic video, `1280x720`. */
  display?: string;
  /** Files with debug information, or folders of them: a vmlinux, modules, a build tree, an unpacked -dbg package. */
  symbols?: string[];
  /** Where sources are: starts of paths in debug information (empty: any), and the folders that stand for them. */
  sourceMap?: Record<string, string>;
  /** MiB that the guest can have in all, for memory that is added while it runs. Default: `memory`. */
  maxMemory?: number;
  /** Items of the external key-value pool. */
  keyValuePairs?: Record<string, string>;
  /** Files that are copied into the guest as soon as it takes them. */
  copyFiles?: CopySetting[];
  noDebug?: boolean;
}

/** A disk image: raw, VHD or VHDX. */
export interface DiskSetting {
  path: string;
  /** `nvme`: an NVMe disk on a virtual PCI bus. Default: `scsi`. */
  bus?: 'scsi' | 'nvme';
  readOnly?: boolean;
  /** A DVD drive with this disc. Default: files called .iso are. */
  dvd?: boolean;
  /** What the guest writes is kept here when the session ends: a differencing VHDX, or the (raw or fixed VHD) image itself. */
  writeTo?: string;
}

/** A file of this computer, and where it is to be in the guest. */
export interface CopySetting {
  from: string;
  /** Full path in the guest. */
  to: string;
  /** A file that is there is replaced. */
  overwrite?: boolean;
  /** Missing folders are made. */
  createPath?: boolean;
}

/** What is at the other end of the guest's Hyper-V sockets. */
export interface SocketsSetting {
  /** `internal`: an echo at port 7. `folder`: Unix sockets. `programs`: standard input and output of programs. */
  mode: 'internal' | 'folder' | 'programs';
  /** Where they are: `host-PORT` answers the guest, `guest-PORT` leads to it. */
  folder?: string;
  /** Ports of the guest to listen for. */
  guestPorts?: number[];
  /** Programs and their arguments by port of the host: one is started for each connection of the guest. */
  hostPrograms?: Record<string, string[]>;
  /** By port of the guest: each is started once and connected there. */
  guestPrograms?: Record<string, string[]>;
}

/** What the guest's network card is plugged into. */
export interface NetworkSetting {
  /** `internal`: nothing outside this machine. `user`: TCP, UDP and names outside, as far as `allow` goes. */
  mode: 'internal' | 'user';
  /** Where the guest may go: `[tcp:|udp:]HOST:PORT`. */
  allow?: string[];
  /** MAC address of the card. */
  mac?: string;
  /** VLANs on which the gateway is as well. */
  vlans?: number[];
  /** IPv4 addresses by name, for the guest's DNS. */
  names?: Record<string, string>;
  /** A pcapng file that gets every frame. */
  capture?: string;
}

/** A register in the VP Registers view. */
export interface VpRegister {
  name: string;
  number: number;
  value: string;
  /** Decoded bits or text, one line each. */
  decoded: string[];
}

export interface FeatureBit {
  name: string;
  bit: number;
  set: boolean;
}
export interface FeatureWord {
  /** `features`, `priv_high`, `misc_features`, `hints`. */
  field: string;
  /** Where it comes from: `HvRegisterPrivilegesAndFeaturesInfo[31:0]`. */
  source: string;
  host: string;
  /** What the guest's own struct holds, when it was found in guest memory. */
  guest?: string;
  bits: FeatureBit[];
}

export interface HypercallRecord {
  /** Running number since power-on. */
  index: number;
  vp: number;
  name: string;
  code: number;
  /** Virtual ns. */
  time: number;
  conduit: string;
  status: string;
  /** `name: value` lines. */
  input: string[];
  output: string[];
  /** Caller as `symbol+0x12`, or an address. */
  caller: string;
}

/** A packet that went through a ring. */
export interface PacketRecord {
  /** Virtual ns. */
  time: number;
  direction: 'guest-to-host' | 'host-to-guest';
  what: string;
  /** Of its payload. */
  bytes: number;
}

/** A ring of an open channel. */
export interface RingView {
  /** `to the host`, `to the guest`. */
  name: string;
  used: number;
  size: number;
  /** `name: value` lines. */
  details: string[];
  /** What waits to be read, oldest first. */
  packets: string[];
}

export interface ChannelView {
  relid: number;
  /** 0: the primary channel of its device. */
  index: number;
  device: string;
  state: string;
  targetVp: number;
  /** The host's half, `name: value` lines. */
  details: string[];
  rings: RingView[];
  /** Packets for the guest that wait for room in its ring. */
  queued: string[];
  /** The last packets, oldest first. */
  recent: PacketRecord[];
  /** The guest's half: what its `vmbus_channel` holds, `name: value` lines. */
  guest?: string[];
  /** Where the halves do not agree. */
  differences: string[];
}

export interface VmbusView {
  state: string;
  version?: string;
  channels: ChannelView[];
  /** Devices that the guest had, and could have again. */
  takenAway: { relid: number; device: string }[];
  /** `vmbus_connection` of the guest, `name: value` lines. */
  guest?: string[];
  /** Why there is no guest's half. */
  guestMissing?: string;
  /** Channels that the guest has and the host does not offer. */
  guestOnly: { relid: number; details: string[] }[];
}

/** A rectangle of the guest's picture, in pixels. */
export interface ScreenChange {
  /** Of the whole picture. */
  screenWidth: number;
  screenHeight: number;
  x: number;
  y: number;
  width: number;
  height: number;
  /** A PNG file, base64. */
  png: string;
}

/** A key that goes down or up, by its `KeyboardEvent.code`; or the mouse: places from 0 to 32767, buttons as in `MouseEvent.buttons`. */
export type PanelInput = { code: string; down: boolean } | { x: number; y: number; buttons: number; wheel?: number };

/** Where code is, for the editor to open: a source file, or the listing of its disassembly. */
export interface CodePlace {
  /** `vmbus_post_msg+0x48 [hv_vmbus]`. */
  name: string;
  /** `0x...` */
  address: string;
  line: number;
  /** As in a DAP StackFrame. */
  source?: { name?: string; path?: string; sourceReference?: number };
}

/** A task of the guest's Linux. */
export interface TaskView {
  /** Of its struct task_struct, `0x...`. */
  address: string;
  pid: number;
  name: string;
  /** Its state as ps has it, and in words. */
  letter: string;
  state: string;
  /** Runs in the kernel only. */
  kernel: boolean;
  /** The function that it sleeps in. */
  where?: string;
  /** Of a process: its other threads. */
  threads: TaskView[];
}

export interface ModuleView {
  name: string;
  size: number;
  base: string;
  state: string;
  references: number;
  usedBy: string[];
  taints: string;
}

/** A record of the kernel's log. */
export interface LogView {
  /** `[    1.234567]` */
  time: string;
  level: string;
  text: string;
  /** `pid 1`, `CPU 0`. */
  caller: string;
  device?: string;
  /** Why the text is not all there. */
  incomplete?: string;
  /** Calls that may have printed it: more than one have the same format. Left out: not known. */
  printedBy?: { name: string; address: string }[];
  /** There are more of these calls. */
  more?: boolean;
  /** That code was for start-up only, and is no longer in memory. */
  gone?: boolean;
}

export interface MountView {
  device: string;
  path: string;
  type: string;
  readOnly: boolean;
}

export interface InterruptView {
  irq: number;
  hwirq: number;
  chip: string;
  trigger: string;
  actions: { name: string; handler: string; address: string }[];
  /** By VP; null for one that is off. */
  counts: (number | null)[];
  hidden: boolean;
}

/** Requests by name: [arguments, response body]. */
export interface CustomRequests {
  'hyperstep/vpRegisters': [{ vp: number }, { registers: VpRegister[] }];
  'hyperstep/features': [Record<string, never>, { words: FeatureWord[]; guestStruct?: string }];
  'hyperstep/vmbus': [Record<string, never>, VmbusView];
  /** Does something to a channel from the host's side; `target` moves its interrupts to VP `vp`. */
  'hyperstep/channel': [
    { relid: number; action: 'rescind' | 'offer' | 'signal-host' | 'signal-guest' | 'target'; vp?: number },
    Record<string, never>,
  ];
  'hyperstep/hypercalls': [{ count: number }, { calls: HypercallRecord[] }];
  /** All TLFS hypercall names with their codes, for the picker. */
  'hyperstep/hypercallNames': [Record<string, never>, { names: { name: string; code: number }[] }];
  /** Replaces the hypercall breakpoints made by command (those of the Breakpoints view come by setExceptionBreakpoints). */
  'hyperstep/setHypercallBreakpoints': [
    { breakpoints: HypercallBreakpoint[] },
    { verified: { verified: boolean; message?: string }[] },
  ];
  /** These read the kernel's own objects in the guest's memory; refused before there is a kernel. */
  'hyperstep/tasks': [Record<string, never>, { tasks: TaskView[] }];
  /** `task`: its address. `broken`: why there are no more frames. */
  'hyperstep/taskStack': [{ task: string }, { frames: CodePlace[]; broken?: string }];
  'hyperstep/kernelModules': [Record<string, never>, { modules: ModuleView[] }];
  /** The newest records, oldest first. `lost`: how many were before what the kernel still has. */
  'hyperstep/kernelLog': [{ count?: number }, { records: LogView[]; lost: number }];
  'hyperstep/mounts': [Record<string, never>, { mounts: MountView[] }];
  'hyperstep/interrupts': [Record<string, never>, { interrupts: InterruptView[] }];
  /** Where the code at an address can be seen. */
  'hyperstep/codePlace': [{ address: string }, CodePlace];
  'hyperstep/consoleInput': [{ data: string }, Record<string, never>];
  /** What has changed of the picture since the last such request (all of it, with `all`); `none`: there is no picture any more. */
  'hyperstep/screen': [{ all: boolean }, { change?: ScreenChange | 'none' }];
  /** `refused`: how many the guest's drivers were not there for, or that are no keys of ours. */
  'hyperstep/input': [{ events: PanelInput[] }, { refused: number }];
  /** These ask the guest; what it answered comes as output of the session. Not accepted: it has no such service, or is busy. */
  'hyperstep/shutdown': [{ restart: boolean; hibernate?: boolean; force?: boolean }, { accepted: boolean }];
  'hyperstep/syncTime': [Record<string, never>, { accepted: boolean }];
  /** Freezes or thaws the guest's file systems. */
  'hyperstep/backup': [{ frozen: boolean }, { accepted: boolean }];
  /** The guest is to have `target` MiB, or gets `add` MiB more. */
  'hyperstep/memory': [{ target?: number; add?: number }, { accepted: boolean }];
  /** Key-value pairs as the host knows them. Pools: external, guest, auto, auto-external, auto-internal. */
  'hyperstep/keyValuePairs': [Record<string, never>, { items: { pool: string; key: string; value: string }[] }];
  /** Without a value: the item is deleted. */
  'hyperstep/setKeyValuePair': [{ pool: string; key: string; value?: string }, { accepted: boolean }];
  /** The kernel's release (`uname -r`), and whether it has debug information. `reload`: files are looked for again first. */
  'hyperstep/symbols': [{ reload: boolean }, { release?: string; file?: string; problem?: string }];
  /** Copies a file of this computer as soon as the guest takes it; its size. */
  'hyperstep/copyFile': [CopySetting, { size: number }];
}

export interface HypercallBreakpoint {
  /** TLFS name or code. */
  call: string;
  phase: 'entry' | 'return';
  condition?: string;
  hitCondition?: string;
  logMessage?: string;
}

/** Events from the adapter: name -> body. */
export interface CustomEvents {
  /** Console bytes, base64. */
  'hyperstep/console': { data: string };
  'hyperstep/state': { running: boolean; instructions: number; now: number };
}
