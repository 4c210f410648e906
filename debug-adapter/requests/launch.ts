/** From `initialize` to the first instruction, and the end. */
import fs from 'node:fs/promises';
import path from 'node:path';
import { Event } from '@vscode/debugadapter';
import type { DebugProtocol } from '@vscode/debugprotocol';
import {
  BOOT_KINDS,
  ConfigError,
  DEFAULTS,
  isBootKind,
  type MachineConfig,
  PERSONALITY_NAMES,
  personality,
  type PlatformOverrides,
} from '../../emulator/index.ts';
import { DiskFiles } from '../disks.ts';
import { GuestNetwork } from '../network.ts';
import { GuestSockets } from '../sockets.ts';
import { KernelFile } from '../kernel-file.ts';
import { Later } from '../later.ts';
import { GuestKernel, KernelFacts } from '../linux/kernel.ts';
import { SymbolFiles } from '../linux/symbol-files.ts';
import type { CopySetting, DiskSetting, LaunchArguments, NetworkSetting, SocketsSetting } from '../protocol.ts';
import { copyRequest } from '../services.ts';
import { displayOf } from '../screen.ts';
import type { Program, Session } from '../session.ts';
import { SourcePaths, useFetchedSources } from '../sources.ts';
import { callCode, hypercallStop } from '../stops.ts';
import { traceKinds } from '../trace-kinds.ts';
import { isAnythingFetched } from '../user-cache.ts';
import { UserError } from '../user-error.ts';
import { FILTERS } from './breakpoints.ts';
import { DATA_MODES } from './data-breakpoints.ts';

const CAPABILITIES: DebugProtocol.Capabilities = {
  supportsConfigurationDoneRequest: true,
  supportsFunctionBreakpoints: true,
  supportsConditionalBreakpoints: true,
  supportsHitConditionalBreakpoints: true,
  supportsBreakpointLocationsRequest: true,
  supportsLogPoints: true,
  supportsInstructionBreakpoints: true,
  supportsDataBreakpoints: true,
  supportsDataBreakpointBytes: true,
  breakpointModes: DATA_MODES,
  supportsExceptionFilterOptions: true,
  supportsExceptionInfoRequest: true,
  exceptionBreakpointFilters: FILTERS,
  supportsDisassembleRequest: true,
  supportsSteppingGranularity: true,
  supportsStepInTargetsRequest: true,
  supportsSingleThreadExecutionRequests: true,
  supportsReadMemoryRequest: true,
  supportsWriteMemoryRequest: true,
  supportsSetVariable: true,
  supportsSetExpression: true,
  supportsEvaluateForHovers: true,
  supportsCompletionsRequest: true,
  completionTriggerCharacters: ['$', '.', '>', ':'],
  supportsModulesRequest: true,
  supportsCancelRequest: true,
  supportsValueFormattingOptions: true,
  supportTerminateDebuggee: false,
};

/** How Debian calls its kernels for arm64: 6.1.0-50-cloud-arm64, 6.12.107+deb13-arm64-16k. */
const DEBIAN_RELEASE = /^\d+\.\d+.*-arm64(-16k)?$/;

/** What a whole-number setting may be. */
const RANGES = { memory: [64, 3072, 'MiB'], maxMemory: [64, 3072, 'MiB'], cpus: [1, 64, 'virtual processors'] } as const;

/** Checks everything that can be checked without reading files. Throws UserError. */
function checkArguments(args: LaunchArguments): void {
  const text = (key: keyof LaunchArguments, needed = false): void => {
    const value = args[key];
    if (value === undefined && !needed) return;
    if (typeof value !== 'string' || (needed && value === ''))
      throw new UserError(`launch.json: "${key}" ${value === undefined || value === '' ? 'is missing' : 'must be text'}`);
  };
  text('kernel', true);
  for (const key of [
    'initrd',
    'append',
    'cpu',
    'boot',
    'load',
    'platform',
    'vmbusVersion',
    'display',
    'consoleLog',
    'traceFile',
  ] as const)
    text(key);
  for (const key of ['monitorPages', 'stopOnEntry', 'stopOnCrash', 'singleThread', 'tasksAsThreads'] as const) {
    const value: unknown = args[key];
    if (value !== undefined && typeof value !== 'boolean') throw new UserError(`launch.json: "${key}" must be true or false`);
  }
  if (args.boot !== undefined && !isBootKind(args.boot))
    throw new UserError(
      `launch.json: "boot" must be ${BOOT_KINDS.map((k) => `"${k}"`).join(' or ')}, not ${JSON.stringify(args.boot)}`,
    );
  if (args.load !== undefined && !/^0x[0-9a-f]{1,12}$/i.test(args.load))
    throw new UserError(`launch.json: "load" must be an address, such as "0x80000", not ${JSON.stringify(args.load)}`);
  for (const key of ['memory', 'maxMemory', 'cpus'] as const) {
    const value = args[key];
    const [least, most, unit] = RANGES[key];
    if (value !== undefined && (!Number.isInteger(value) || value < least || value > most))
      throw new UserError(
        `launch.json: "${key}" must be a whole number from ${least} to ${most} (${unit}), not ${JSON.stringify(value)}`,
      );
  }
  checkPlatform(args);
  launchTrace(args);
  checkDisks(args.disks);
  checkRows('network', NETWORK_KEYS, args.network, '{ "mode": "internal" }');
  checkRows('sockets', SOCKETS_KEYS, args.sockets, '{ "mode": "internal" }');
  const { symbols, sourceMap } = args;
  if (symbols !== undefined && (!Array.isArray(symbols) || symbols.some((s) => typeof s !== 'string')))
    throw new UserError('launch.json: "symbols" must be a list of files and folders');
  const folders: unknown[] = typeof sourceMap === 'object' && sourceMap !== null ? Object.values(sourceMap) : [];
  if (
    sourceMap !== undefined &&
    (typeof sourceMap !== 'object' || sourceMap === null || folders.some((f) => typeof f !== 'string'))
  )
    throw new UserError('launch.json: "sourceMap" must be an object of folders by the start of paths in debug information');
  checkPairs(args.keyValuePairs);
  checkCopies(args.copyFiles);
  if (args.display !== undefined) ofSetting('display', () => displayOf(args.display ?? ''));
  const calls = args.stopOnHypercalls;
  if (calls !== undefined && (!Array.isArray(calls) || calls.some((c) => typeof c !== 'string')))
    throw new UserError('launch.json: "stopOnHypercalls" must be a list of names or codes');
  for (const call of calls ?? []) {
    try {
      callCode(call);
    } catch (e) {
      throw e instanceof UserError ? new UserError(`launch.json: "stopOnHypercalls": ${e.message}`) : e;
    }
  }
}

/** The kinds that "trace" names. */
function launchTrace({ trace, traceFile }: LaunchArguments): ReturnType<typeof traceKinds> {
  if (trace !== undefined && (!Array.isArray(trace) || trace.some((word) => typeof word !== 'string')))
    throw new UserError('launch.json: "trace" must be a list such as ["hypercall", "message"]');
  return traceKinds(trace ?? (traceFile === undefined ? [] : ['all']), 'launch.json: "trace":');
}

/** The host's settings, with those that have a name of their own in launch.json. */
function platformOverrides({ platformOverrides: others, vmbusVersion, monitorPages }: LaunchArguments): PlatformOverrides {
  return {
    ...others,
    ...(vmbusVersion === undefined ? {} : { vmbusVersion }),
    ...(monitorPages === undefined ? {} : { monitorPages }),
  };
}

function checkPlatform(args: LaunchArguments): void {
  const { platformOverrides: overrides } = args;
  if (overrides !== undefined && (typeof overrides !== 'object' || overrides === null || Array.isArray(overrides)))
    throw new UserError('launch.json: "platformOverrides" must be an object such as { "vmbusPpi": 16 }');
  const name =
    args.platform === undefined || PERSONALITY_NAMES.some((n) => n === args.platform) ? 'platformOverrides' : 'platform';
  ofSetting(name, () => personality(args.platform, overrides));
}

/** What a disk of launch.json may say. */
const DISK_KEYS: Record<keyof DiskSetting, 'string' | 'boolean'> = {
  path: 'string',
  bus: 'string',
  readOnly: 'boolean',
  dvd: 'boolean',
  writeTo: 'string',
};

function checkDisks(disks: unknown): void {
  if (disks === undefined) return;
  if (!Array.isArray(disks)) throw new UserError('launch.json: "disks" must be a list of { "path": "..." }');
  for (const disk of disks as unknown[]) {
    if (typeof disk !== 'object' || disk === null || !('path' in disk) || disk.path === '')
      throw new UserError(`launch.json: "disks": ${JSON.stringify(disk)} has no "path"`);
    for (const [key, value] of Object.entries(disk)) {
      const type = Object.hasOwn(DISK_KEYS, key) ? DISK_KEYS[key as keyof DiskSetting] : undefined;
      if (type === undefined || typeof value !== type)
        throw new UserError(`launch.json: "disks": "${key}" ${type === undefined ? 'is not known' : `must be a ${type}`}`);
    }
    if ('bus' in disk && disk.bus !== 'scsi' && disk.bus !== 'nvme')
      throw new UserError(`launch.json: "disks": "bus" must be "scsi" or "nvme", not ${JSON.stringify(disk.bus)}`);
  }
}

function checkPairs(pairs: unknown): void {
  if (pairs === undefined) return;
  if (
    typeof pairs !== 'object' ||
    pairs === null ||
    Array.isArray(pairs) ||
    Object.values(pairs).some((v) => typeof v !== 'string')
  )
    throw new UserError('launch.json: "keyValuePairs" must be an object of texts');
}

/** What a file to copy may say. */
const COPY_KEYS: Record<keyof CopySetting, 'string' | 'boolean'> = {
  from: 'string',
  to: 'string',
  overwrite: 'boolean',
  createPath: 'boolean',
};

function checkCopies(copies: unknown): void {
  if (copies === undefined) return;
  if (!Array.isArray(copies)) throw new UserError('launch.json: "copyFiles" must be a list of { "from": "...", "to": "..." }');
  for (const copy of copies as unknown[]) {
    if (typeof copy !== 'object' || copy === null || !('from' in copy) || !('to' in copy))
      throw new UserError(`launch.json: "copyFiles": ${JSON.stringify(copy)} has no "from" or no "to"`);
    for (const [key, value] of Object.entries(copy)) {
      const type = Object.hasOwn(COPY_KEYS, key) ? COPY_KEYS[key as keyof CopySetting] : undefined;
      if (type === undefined || typeof value !== type)
        throw new UserError(`launch.json: "copyFiles": "${key}" ${type === undefined ? 'is not known' : `must be a ${type}`}`);
    }
  }
}

/** What a setting that is an object may say: what each of its values must be. */
type Rows<S> = Record<keyof S, { what: string; is: (v: unknown) => boolean }>;

/** What the network of launch.json may say. */
const NETWORK_KEYS: Rows<NetworkSetting> = {
  mode: { what: '"internal" or "user"', is: (v) => v === 'internal' || v === 'user' },
  allow: { what: 'a list of "HOST:PORT"', is: (v) => Array.isArray(v) && v.every((x) => typeof x === 'string') },
  mac: { what: 'text', is: (v) => typeof v === 'string' },
  vlans: { what: 'a list of numbers', is: (v) => Array.isArray(v) && v.every((x) => typeof x === 'number') },
  names: {
    what: 'an object of names with IPv4 addresses',
    is: (v) => typeof v === 'object' && v !== null && !Array.isArray(v) && Object.values(v).every((x) => typeof x === 'string'),
  },
  capture: { what: 'a file', is: (v) => typeof v === 'string' && v !== '' },
};

const PROGRAMS = 'an object of ports with lists of a program and its arguments';
const arePrograms = (v: unknown): boolean =>
  typeof v === 'object' &&
  v !== null &&
  !Array.isArray(v) &&
  Object.values(v).every((x) => Array.isArray(x) && x.every((word) => typeof word === 'string'));

/** And its sockets. */
const SOCKETS_KEYS: Rows<SocketsSetting> = {
  mode: { what: '"internal", "folder" or "programs"', is: (v) => v === 'internal' || v === 'folder' || v === 'programs' },
  folder: { what: 'a folder', is: (v) => typeof v === 'string' && v !== '' },
  guestPorts: { what: 'a list of numbers', is: (v) => Array.isArray(v) && v.every((x) => typeof x === 'number') },
  hostPrograms: { what: PROGRAMS, is: arePrograms },
  guestPrograms: { what: PROGRAMS, is: arePrograms },
};

function checkRows<S>(setting: keyof LaunchArguments, rows: Rows<S>, value: unknown, example: string): void {
  if (value === undefined) return;
  if (typeof value !== 'object' || value === null || !('mode' in value))
    throw new UserError(`launch.json: "${setting}" must be an object such as ${example}`);
  for (const [key, v] of Object.entries(value)) {
    const row = Object.hasOwn(rows, key) ? rows[key as keyof S] : undefined;
    if (!row?.is(v))
      throw new UserError(
        `launch.json: "${setting}": "${key}" ${row ? `must be ${row.what}, not ${JSON.stringify(v)}` : 'is not known'}`,
      );
  }
}

/** Opens the images. Throws `UserError`. */
function openDisks(settings: readonly DiskSetting[]): DiskFiles {
  return ofSetting('disks', () => new DiskFiles(settings));
}

/** What is wrong with a setting's value is told with its name. */
function ofSetting<T>(key: keyof LaunchArguments, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw error instanceof ConfigError ? new UserError(`launch.json: "${key}": ${error.message}`) : error;
  }
}

/** What `work` does with a file that a setting names; what the system says against that is told with both. */
async function ofFile<T>(file: string, setting: string, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (e) {
    const { code, message } = e as NodeJS.ErrnoException;
    if (code === undefined) throw e;
    const why =
      code === 'ENOENT'
        ? 'there is no such file'
        : code === 'EISDIR'
          ? 'it is a folder'
          : code === 'EACCES'
            ? 'permission denied'
            : message;
    throw new UserError(`launch.json: "${setting}": cannot read ${file}: ${why}`);
  }
}

/** Opens what the arguments name; the machine is made when the client has set its breakpoints. */
async function launch(session: Session, args: LaunchArguments): Promise<Later> {
  if (session.launched) throw new UserError('This session has a guest already');
  checkArguments(args);
  let disks: DiskFiles | undefined;
  let network: GuestNetwork | undefined;
  let sockets: GuestSockets | undefined;
  session.startProgress(`Booting ${path.basename(args.kernel)}`, 'reading files');
  try {
    const started = performance.now();
    const kernel = await ofFile(args.kernel, 'kernel', () => KernelFile.open(args.kernel));
    if (args.traceFile)
      await fs.writeFile(args.traceFile, '').catch((e: Error) => {
        throw new UserError(`launch.json: "traceFile": cannot write ${args.traceFile}: ${e.message}`);
      });
    if (args.consoleLog)
      await fs.writeFile(args.consoleLog, '').catch((e: Error) => {
        throw new UserError(`launch.json: "consoleLog": cannot write ${args.consoleLog}: ${e.message}`);
      });
    disks = openDisks(args.disks ?? []);
    network = ofSetting('network', () => new GuestNetwork(args.network));
    sockets = ofSetting('sockets', () => new GuestSockets(args.sockets));
    const settings: Settings = {
      memory: args.memory ?? DEFAULTS.memory,
      cpus: args.cpus ?? DEFAULTS.cpus,
      cpu: args.cpu ?? DEFAULTS.cpu,
      append: args.append ?? DEFAULTS.append,
      boot: args.boot !== undefined && isBootKind(args.boot) ? args.boot : DEFAULTS.boot,
      ...(args.load === undefined ? {} : { load: Number(args.load) }),
      ...(args.platform === undefined ? {} : { platform: args.platform }),
      platformOverrides: platformOverrides(args),
      ...(args.display === undefined ? {} : { display: displayOf(args.display) }),
      kernelName: kernel.name,
      disks: disks.configs,
      ...(network.config ? { network: network.config } : {}),
      ...(sockets.config ? { sockets: sockets.config } : {}),
      maxMemory: args.maxMemory,
      keyValuePairs: args.keyValuePairs,
      copyFiles: ofSetting('copyFiles', () => (args.copyFiles ?? []).map(copyRequest)),
      seed: DEFAULTS.seed,
      startTime: DEFAULTS.startTime,
      quantum: DEFAULTS.quantum,
    };
    const facts = new KernelFacts(kernel);
    if (facts.symbols.size) session.say(`${facts.symbols.size} symbols from ${kernel.name}`);
    const sources = new SourcePaths(args.sourceMap);
    // To find out the release takes a search through the kernel.
    if (isAnythingFetched()) useFetchedSources(sources, facts.release);
    for (const folder of sources.missing) session.say(`launch.json: "sourceMap": there is no folder ${folder}`, 'stderr');
    const files = new SymbolFiles(facts, facts.isElf ? args.kernel : undefined, args.symbols);
    files.onDamage = (text) => session.say(text, 'stderr');
    void files.opened.then(() => {
      for (const { info } of files.all)
        session.say(`Debug information of ${info.elf.name}, ready in ${took(started, performance.now())}`);
      const problem = files.problems.get('');
      if (problem && (args.symbols?.length || facts.isElf)) session.say(`No debug information for the kernel: ${problem}`);
    });
    session.stopOnCrash = args.stopOnCrash ?? true;
    session.trace.set(launchTrace(args), args.traceFile);
    session.hypercallStops.set(
      'launch',
      (args.stopOnHypercalls ?? []).map((call) => hypercallStop(call, {})),
    );
    const program: Program = { args, disks, network, sockets, symbols: facts.symbols, files, sources };
    const made = session.prepare(program, () => makeMachine(session, program, settings, kernel, facts));
    session.after(() => session.sendEvent(new Event('initialized')));
    return new Later(made);
  } catch (e) {
    disks?.close();
    network?.close();
    sockets?.close();
    session.endProgress();
    throw e;
  }
}

const took = (from: number, to: number): string => `${(to - from).toFixed(0)} ms`;

/** What a machine is made from, but for the files that it starts with. */
type Settings = Omit<MachineConfig, 'kernel' | 'initrd' | 'initrdName'>;

async function makeMachine(
  session: Session,
  program: Program,
  settings: Settings,
  file: KernelFile,
  facts: KernelFacts,
): Promise<void> {
  try {
    const { kernel: kernelFile, initrd: initrdFile } = program.args;
    const started = performance.now();
    const kernel = await ofFile(kernelFile, 'kernel', () => file.bytes);
    const initrd = initrdFile ? new Uint8Array(await ofFile(initrdFile, 'initrd', () => fs.readFile(initrdFile))) : undefined;
    const config: MachineConfig = {
      ...settings,
      kernel,
      ...(initrd && initrdFile ? { initrd, initrdName: path.basename(initrdFile) } : {}),
    };
    const read = performance.now();
    const mib = (bytes: number) => `${(bytes / (1 << 20)).toFixed(1)} MiB`;
    session.say(
      `${config.kernelName} (${mib(kernel.length)})${initrd ? ` and ${config.initrdName} (${mib(initrd.length)})` : ''} read in ${took(started, read)}`,
    );
    const { createMachine } = await import('../../emulator/load.ts');
    const machine = createMachine(config);
    session.say(
      `Hyper-V guest with ${config.memory} MiB, ${config.cpus} VP${config.cpus > 1 ? 's' : ''}, CPU ${config.cpu}: built in ${took(read, performance.now())}`,
    );
    session.adopt({ ...program, config, machine, kernel: new GuestKernel(machine, facts) });
    // Rather now than at a stop.
    for (const { info } of program.files.all) info.prepareNames();
    session.resolveBreakpoints();
    void program.files.opened.then(() => {
      if (!program.files.all.length && facts.release && DEBIAN_RELEASE.test(facts.release))
        session.say(
          `Debug information and sources of Debian's ${facts.release} can be fetched: "Hyperstep: Fetch Debian's Symbols and Sources"`,
        );
    });
  } catch (e) {
    session.endProgress();
    throw e;
  }
}

export const launching = {
  initialize(session: Session, args: DebugProtocol.InitializeRequestArguments): DebugProtocol.Capabilities {
    session.client = args;
    return CAPABILITIES;
  },

  launch,

  attach(): never {
    throw new UserError('A running guest cannot be attached to: use "request": "launch"');
  },

  async configurationDone(session: Session): Promise<void> {
    const { args, files } = session.debuggee;
    // What stops soon is shown with its lines.
    if (args.stopOnEntry || session.codeBreakpoints.list.length) await files.opened;
    if (args.stopOnEntry && !args.noDebug) {
      session.after(() => session.stopAtEntry());
      return;
    }
    session.resume({ kind: 'continue' });
  },

  disconnect(session: Session): void {
    session.after(() => session.shutdown());
  },
};
