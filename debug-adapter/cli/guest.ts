/** A machine with its kernel's symbols, run to an end by the commands `run` and `demo`. */
import fs from 'node:fs';
import path from 'node:path';
import {
  type Exit,
  type HypercallInfo,
  type Machine,
  type MachineConfig,
  BOOT_KINDS,
  ConfigError,
  type CopyRequest,
  DEFAULTS,
  isBootKind,
  PERSONALITY_NAMES,
  PLATFORM_SETTINGS,
  type PlatformOverrides,
} from '../../emulator/index.ts';
import { createMachine } from '../../emulator/load.ts';
import { KernelFile, unwrapKernel } from '../kernel-file.ts';
import { DiskFiles } from '../disks.ts';
import { GuestNetwork } from '../network.ts';
import { GuestSockets, type StdioSetting } from '../sockets.ts';
import { GuestKernel, KernelFacts } from '../linux/kernel.ts';
import type { DiskSetting, NetworkSetting, SocketsSetting } from '../protocol.ts';
import { ProcessMemory } from '../process-memory.ts';
import { displayOf } from '../screen.ts';
import { copyRequest } from '../services.ts';
import { UsageError, integer } from './usage.ts';

/** Options that say what to boot; the same for every command that boots. */
export const MACHINE_OPTIONS = {
  kernel: { type: 'string' },
  initrd: { type: 'string' },
  append: { type: 'string' },
  cpus: { type: 'string' },
  memory: { type: 'string' },
  cpu: { type: 'string' },
  boot: { type: 'string' },
  load: { type: 'string' },
  disk: { type: 'string', multiple: true },
  network: { type: 'string' },
  sockets: { type: 'string' },
  'max-memory': { type: 'string' },
  kvp: { type: 'string', multiple: true },
  copy: { type: 'string', multiple: true },
  display: { type: 'string' },
  'vmbus-version': { type: 'string' },
  'monitor-pages': { type: 'boolean' },
  platform: { type: 'string' },
  'platform-set': { type: 'string', multiple: true },
} as const;

export const MACHINE_HELP = `  --kernel FILE            the arm64 kernel: Image, compressed Image, EFI zboot image or ELF; with --boot device-tree any
                           program that starts at EL1 with the MMU off and a device tree in x0: also a flat binary
  --initrd FILE            an initramfs
  --append TEXT            the kernel command line (default: "${DEFAULTS.append}")
  --cpus N                 virtual processors, 1 to 64 (default ${DEFAULTS.cpus})
  --memory MiB             guest RAM, 64 to 3072 (default ${DEFAULTS.memory})
  --cpu MODEL              max, neoverse-n1, neoverse-n2 or cortex-a72 (default ${DEFAULTS.cpu})
  --boot KIND              hyperv: as Hyper-V's firmware does, with ACPI; device-tree: by the arm64 boot protocol with a
                           device tree of the whole machine, for bare-metal programs (default ${DEFAULTS.boot})
  --load ADDRESS           with --boot device-tree: physical address of the program (default: an ELF file where it says, an
                           Image at 2 MiB + its text offset, a flat binary at 0x80000)
  --disk FILE[,ro][,dvd][,nvme][,write=FILE]
                           a disk on the SCSI controller, may be repeated: a raw, VHD or VHDX image. What the guest writes
                           is gone at the end unless write= names a differencing .vhdx, or the image itself (raw, fixed
                           VHD). ro: the guest cannot write. dvd: a DVD drive (default for .iso). nvme: an NVMe disk on a
                           virtual PCI bus instead
  --network MODE[,allow=[tcp:|udp:]HOST:PORT][,capture=FILE][,mac=ADDRESS][,vlan=N][,name=NAME=ADDRESS]
                           a network card with DHCP and DNS. internal: nothing outside this machine, but echo, discard,
                           characters and HTTP on the gateway (10.0.2.2). user: TCP, UDP and names outside, where an
                           allow= names it (a name, an address, a network; a port, a range or *); the gateway is this
                           computer's localhost. capture: frames as pcapng. allow=, vlan= and name= may be repeated
  --sockets internal | FOLDER[,guest=PORT]... | stdio,host=PORT | stdio,guest=PORT
                           Hyper-V sockets (AF_VSOCK). internal: an echo at port 7. FOLDER: the guest connects to port N of
                           the host (CID 2) by the Unix socket FOLDER/host-N, and FOLDER/guest-PORT, made here, leads to
                           that port of the guest. stdio: standard input and output of this program are at that port of
                           the host, or lead to that of the guest once it listens; the console goes to stderr then
  --display WxH            resolution of the synthetic video, which the guest is free to change (default ${DEFAULTS.display.width}x${DEFAULTS.display.height})
  --max-memory MiB         what the guest can have in all, for memory that is added while it runs (default: --memory)
  --kvp KEY=VALUE          an item of the external key-value pool, may be repeated (the guest needs hv_kvp_daemon)
  --copy FILE:PATH         copies FILE to PATH in the guest as soon as it takes it, may be repeated; what is there is
                           replaced, folders are made (the guest needs hv_fcopy_daemon)
  --platform NAME          the host that the guest sees: ${PERSONALITY_NAMES.join(', ')}
                           (default ${DEFAULTS.platform}: everything that works here)
  --platform-set NAME=VALUE
                           one fact of it that is different, may be repeated: a bit of the feature words, a VP register, or
                           ${PLATFORM_SETTINGS.slice(0, 8).join(', ')},
                           ${PLATFORM_SETTINGS.slice(8, 15).join(', ')},
                           ${PLATFORM_SETTINGS.slice(15).join(', ')}
  --vmbus-version VERSION  the newest VMBus version that the host speaks: 2.4, 3.0, 4.0, 4.1, 5.0 to 5.3 or 6.0
  --monitor-pages          the guest signals its disks and network by monitor pages, not by hypercalls`;

type MachineValues = {
  [K in keyof typeof MACHINE_OPTIONS]?: K extends 'disk' | 'kvp' | 'copy' | 'platform-set'
    ? string[]
    : K extends 'monitor-pages'
      ? boolean
      : string;
};

/** What may stand behind a disk's file name. */
const DISK_WORDS: Record<string, Partial<DiskSetting>> = { ro: { readOnly: true }, dvd: { dvd: true }, nvme: { bus: 'nvme' } };

/** FILE[,ro][,dvd][,nvme][,write=FILE] */
function diskSetting(text: string): DiskSetting {
  const [file, ...words] = text.split(',');
  if (!file) throw new UsageError(`--disk ${text}: expected FILE[,ro][,dvd][,nvme][,write=FILE]`);
  const setting: DiskSetting = { path: file };
  for (const word of words) {
    const writeTo = /^write=(.+)$/.exec(word)?.[1];
    if (writeTo === undefined && !(word in DISK_WORDS))
      throw new UsageError(`--disk ${text}: "${word}" is none of ro, dvd, nvme, write=FILE`);
    Object.assign(setting, writeTo === undefined ? DISK_WORDS[word] : { writeTo });
  }
  return setting;
}

/** MODE[,KEY=VALUE]... */
function networkSetting(text: string): NetworkSetting {
  const [mode, ...words] = text.split(',');
  if (mode !== 'internal' && mode !== 'user') throw new UsageError(`--network ${text}: expected internal or user, not "${mode}"`);
  const setting: NetworkSetting = { mode };
  for (const word of words) {
    const [, key, value] = /^(allow|capture|mac|vlan|name)=(.+)$/.exec(word) ?? [];
    if (key === 'allow') setting.allow = [...(setting.allow ?? []), value];
    else if (key === 'vlan') setting.vlans = [...(setting.vlans ?? []), integer('network', value, 1, 4094)];
    else if (key === 'name') {
      const [, name, address] = /^([^=]+)=(.+)$/.exec(value) ?? [];
      if (name === undefined) throw new UsageError(`--network ${text}: "${word}": expected name=NAME=ADDRESS`);
      setting.names = { ...setting.names, [name]: address };
    } else if (key === 'capture' || key === 'mac') setting[key] = value;
    else throw new UsageError(`--network ${text}: "${word}" is none of allow=, capture=, mac=, vlan=, name=`);
  }
  return setting;
}

/** internal, FOLDER[,guest=PORT]..., stdio,host=PORT or stdio,guest=PORT */
function socketsSetting(text: string): SocketsSetting | StdioSetting {
  if (text === 'internal') return { mode: 'internal' };
  const [folder, ...words] = text.split(',');
  if (!folder) throw new UsageError(`--sockets ${text}: expected internal, FOLDER[,guest=PORT]... or stdio,host=PORT`);
  const portOf = (port: string): number => integer('sockets', port, 0, 0xffff_fffe);
  if (folder === 'stdio') {
    const [, side, port] = /^(host|guest)=(.+)$/.exec(words.join()) ?? [];
    if (side === undefined) throw new UsageError(`--sockets ${text}: expected stdio,host=PORT or stdio,guest=PORT`);
    return { mode: 'stdio', port: side === 'host' ? { host: portOf(port) } : { guest: portOf(port) } };
  }
  const guestPorts = words.map((word) => {
    const port = /^guest=(.+)$/.exec(word)?.[1];
    if (port === undefined) throw new UsageError(`--sockets ${text}: "${word}" is not guest=PORT`);
    return portOf(port);
  });
  return { mode: 'folder', folder, guestPorts };
}

/** KEY=VALUE */
function keyValuePair(text: string): [key: string, value: string] {
  const [, key, value] = /^([^=]+)=(.*)$/s.exec(text) ?? [];
  if (key === undefined) throw new UsageError(`--kvp ${text}: expected KEY=VALUE`);
  return [key, value];
}

/** The host's settings: each NAME=VALUE, and those that have an option of their own. */
function platformOverrides(values: MachineValues): PlatformOverrides {
  const overrides: Record<string, string | boolean> = {};
  for (const text of values['platform-set'] ?? []) {
    const [, name, value] = /^([^=]+)=(.*)$/s.exec(text) ?? [];
    if (name === undefined) throw new UsageError(`--platform-set ${text}: expected NAME=VALUE`);
    overrides[name] = value;
  }
  const { 'vmbus-version': vmbusVersion, 'monitor-pages': monitorPages } = values;
  return { ...overrides, ...(vmbusVersion === undefined ? {} : { vmbusVersion }), ...(monitorPages ? { monitorPages } : {}) };
}

/** FILE:PATH */
function copyOf(text: string): CopyRequest {
  const [, from, to] = /^(.+?):(\/.+)$/.exec(text) ?? [];
  if (from === undefined) throw new UsageError(`--copy ${text}: expected FILE:PATH, PATH beginning with /`);
  return copyRequest({ from, to, overwrite: true, createPath: true });
}

/** The disks of the command line. Throws `UsageError`. */
export function openDisks(values: MachineValues): Promise<DiskFiles> {
  return asUsage(() => new DiskFiles((values.disk ?? []).map(diskSetting)));
}

/** The network of the command line. Throws `UsageError`. */
export function openNetwork(values: MachineValues): Promise<GuestNetwork> {
  return asUsage(() => new GuestNetwork(values.network === undefined ? undefined : networkSetting(values.network)));
}

/** The Hyper-V sockets of the command line. Throws `UsageError`. */
export function openSockets(values: MachineValues): Promise<GuestSockets> {
  return asUsage(() => new GuestSockets(values.sockets === undefined ? undefined : socketsSetting(values.sockets)));
}

function readFile(option: string, file: string): Uint8Array {
  try {
    return fs.readFileSync(file);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    const why =
      code === 'ENOENT'
        ? 'no such file'
        : code === 'EISDIR'
          ? 'is a directory'
          : code === 'EACCES'
            ? 'permission denied'
            : String(code);
    throw new UsageError(`--${option} ${file}: ${why}`);
  }
}

/** Reads the files and checks the values. Throws `UsageError`. */
export async function machineConfig(
  values: MachineValues,
  disks: DiskFiles,
  network: GuestNetwork,
  sockets: GuestSockets,
): Promise<MachineConfig> {
  if (!values.kernel) throw new UsageError('--kernel FILE is missing');
  const { boot = DEFAULTS.boot, load } = values;
  if (!isBootKind(boot)) throw new UsageError(`--boot ${boot}: expected ${BOOT_KINDS.join(' or ')}`);
  if (load !== undefined && !/^(0x[0-9a-f]{1,12}|\d{1,12})$/i.test(load))
    throw new UsageError(`--load ${load}: expected an address, such as 0x80000`);
  const config = {
    ...DEFAULTS,
    boot,
    ...(load === undefined ? {} : { load: Number(load) }),
    ...(values.platform === undefined ? {} : { platform: values.platform }),
    platformOverrides: platformOverrides(values),
    memory: values.memory === undefined ? DEFAULTS.memory : integer('memory', values.memory, 64, 3072),
    cpus: values.cpus === undefined ? DEFAULTS.cpus : integer('cpus', values.cpus, 1, 64),
    cpu: values.cpu ?? DEFAULTS.cpu,
    disks: disks.configs,
    ...(network.config ? { network: network.config } : {}),
    ...(sockets.config ? { sockets: sockets.config } : {}),
    ...(values['max-memory'] === undefined ? {} : { maxMemory: integer('max-memory', values['max-memory'], 64, 3072) }),
    keyValuePairs: Object.fromEntries((values.kvp ?? []).map(keyValuePair)),
    copyFiles: await asUsage(() => (values.copy ?? []).map(copyOf)),
    append: values.append ?? DEFAULTS.append,
    kernelName: path.basename(values.kernel),
    kernel: readFile('kernel', values.kernel),
    ...(values.initrd === undefined
      ? {}
      : { initrd: readFile('initrd', values.initrd), initrdName: path.basename(values.initrd) }),
  };
  return asUsage(async () => ({
    ...config,
    ...(values.display === undefined ? {} : { display: displayOf(values.display) }),
    kernel: await unwrapKernel(config.kernel, config.kernelName),
  }));
}

/** Turns what the emulator says about a bad configuration into a usage error. */
async function asUsage<T>(work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof ConfigError) throw new UsageError(error.message);
    throw error;
  }
}

/** Instructions between looks at symbols, limits and the event loop. */
const SLICE = 5_000_000;
/** With somebody outside: virtual time of a slice, and how long to wait for an answer when the guest has mostly waited in it. */
const SLICE_NS = 20_000_000;
const REST_MS = 20;

export interface Conditions {
  /** True: come back with this call, before it is executed. */
  hypercall?: (call: HypercallInfo) => boolean;
  /** Looked at after every slice; true: come back. */
  enough?: () => boolean;
  /** Called with every console byte; true: come back there. */
  console?: (byte: number) => boolean;
  maxInstructions?: number;
  /** Somebody types: an idle guest's time goes by no faster than ours. */
  isPaced?: boolean;
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** How the guest's run ended for good, or a stop on the way. */
export type End = Exit | { kind: 'enough' };

export class Guest {
  readonly machine: Machine;
  readonly kernel: GuestKernel;
  readonly hypercalls = new Map<string, number>();
  /** Host time spent in the machine, seconds. */
  hostSeconds = 0;
  consoleBytes = 0;
  #resume: number | undefined;
  readonly #network: GuestNetwork;
  readonly #sockets: GuestSockets;
  readonly #memory = new ProcessMemory();
  onConsole: (bytes: Uint8Array) => void = () => {};

  private constructor(machine: Machine, config: MachineConfig, network: GuestNetwork, sockets: GuestSockets) {
    this.machine = machine;
    this.#network = network;
    this.#sockets = sockets;
    const note = (text: string): void => {
      process.stderr.write(`hyperstep: ${text}\n`);
    };
    network.connect(machine, config.startTime, note);
    sockets.connect(machine, note, () => network.stir());
    machine.engineClock = () => performance.now() / 1000;
    this.kernel = new GuestKernel(machine, new KernelFacts(new KernelFile(config.kernelName, config.kernel)));
    machine.subscribe(
      (event) => {
        if (event.kind === 'hypercall') this.hypercalls.set(event.name, (this.hypercalls.get(event.name) ?? 0) + 1);
      },
      ['hypercall'],
    );
    machine.onConsole = (bytes) => {
      this.consoleBytes += bytes.length;
      this.onConsole(bytes);
    };
  }

  static async create(config: MachineConfig, network: GuestNetwork, sockets: GuestSockets): Promise<Guest> {
    return new Guest(await asUsage(() => createMachine(config)), config, network, sockets);
  }

  /** Runs until something is worth coming back for. A stop is passed over by calling again. */
  async run(conditions: Conditions): Promise<End> {
    const { machine, kernel } = this;
    for (;;) {
      const left = (conditions.maxInstructions ?? Number.POSITIVE_INFINITY) - machine.instructions;
      if (left <= 0) return { kind: 'limit' };
      const started = process.hrtime.bigint();
      const before = { now: machine.now, instructions: machine.instructions };
      const outside = this.#network.leadsOutside || this.#sockets.leadsOutside;
      const isPaced = outside || conditions.isPaced;
      const exit = machine.run({
        instructions: Math.min(SLICE, left),
        ...(isPaced ? { nanoseconds: SLICE_NS } : {}),
        hypercall: conditions.hypercall,
        console: conditions.console,
        resumeVp: this.#resume,
      });
      this.hostSeconds += Number(process.hrtime.bigint() - started) / 1e9;
      this.#resume = exit.kind === 'breakpoint' || exit.kind === 'hypercall' || exit.kind === 'crash' ? exit.vp : undefined;
      if (kernel.absorb(exit)) continue;
      kernel.poll();
      this.#memory.tidy(machine);
      const idle = machine.now - before.now - (machine.instructions - before.instructions);
      if (isPaced && idle > SLICE_NS * 0.9) await (outside ? this.#network.rest(REST_MS) : pause(REST_MS));
      else await new Promise((resolve) => setImmediate(resolve));
      if (conditions.enough?.()) return { kind: 'enough' };
      if (exit.kind !== 'limit') return exit;
    }
  }

  get mips(): number {
    return this.hostSeconds > 0 ? this.machine.instructions / this.hostSeconds / 1e6 : 0;
  }
}

/** True at the byte that completes `text` (UTF-8), however the bytes before it repeat. */
export function matcher(text: string): (byte: number) => boolean {
  const want = new TextEncoder().encode(text);
  const tail: number[] = [];
  return (byte) => {
    tail.push(byte);
    if (tail.length > want.length) tail.shift();
    return tail.length === want.length && want.every((b, i) => b === tail[i]);
  };
}
