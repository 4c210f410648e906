/** What people who debug a kernel do all day, on Debian's kernel with its debug information: one boot, a transcript for each. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { before, type TestContext, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import type { DebugProtocol } from '@vscode/debugprotocol';
import { debianDebugInfo, debianGuest, debianInitramfs } from '../../scripts/debian-guest.mjs';
import { type DebugInfo, KIND, openDebugInfo } from '../../debug-adapter/symbols/dwarf/debug-info.ts';
import { Client, golden } from './harness.ts';

/** Runs before /init: a program whose stack is walked, and what patches functions. */
const FIRST = `#!/bin/sh
/program
B=/bin/busybox
$B mount -t sysfs s /sys
$B mount -t tracefs t /sys/kernel/tracing
$B mount -t proc p /proc
cd /sys/kernel/tracing
echo version_proc_show >set_ftrace_filter
echo function >current_tracer
read v </proc/version
echo nop >current_tracer
echo p:probe version_proc_show >kprobe_events
echo 1 >events/kprobes/probe/enable
read v </proc/version
echo 0 >events/kprobes/probe/enable
cd /
$B umount /sys/kernel/tracing /sys /proc
exec /init
`;

const PROGRAM = path.resolve(import.meta.dirname, '../guests/user');

/** Debian's sources are a package of their own, and not needed: lines are shown of files that are there, whatever is in them. */
const SOURCES = [
  'arch/arm64/hyperv/hv_core.c',
  'arch/arm64/include/asm/mshyperv.h',
  'arch/arm64/kernel/{entry,entry-ftrace,head}.S',
  'arch/arm64/kernel/{debug-monitors,entry-common,irq,syscall,traps}.c',
  'arch/arm64/kernel/probes/kprobes.c',
  'arch/arm64/mm/{cache,proc}.S',
  'arch/arm64/mm/fault.c',
  'drivers/base/{bus,dd}.c',
  'drivers/hv/{channel_mgmt,connection,hv,hv_common,vmbus_drv}.c',
  'drivers/irqchip/irq-gic-v3.c',
  'drivers/scsi/storvsc_drv.c',
  'fs/{read_write,seq_file}.c',
  'fs/proc/{inode,version}.c',
  'include/asm-generic/mshyperv.h',
  'include/linux/{completion,dma-mapping,interrupt,irqdesc}.h',
  'init/main.c',
  'kernel/{async,kthread,panic,smp,smpboot,softirq,workqueue}.c',
  'kernel/irq/{chip,irqdesc}.c',
  'kernel/module/main.c',
  'kernel/printk/printk.c',
  'kernel/trace/{trace_functions,trace_kprobe}.c',
].flatMap((f) => {
  const [, start, names, end] = /^(.*)\{(.*)\}(.*)$/.exec(f) ?? [];
  return names ? names.split(',').map((name) => `${start}${name}${end}`) : [f];
});

let launch: object;
let files: DebugInfo[];
before(async () => {
  const guest = await debianGuest();
  const { vmlinux, module } = debianDebugInfo();
  const modules = ['hv_vmbus', 'hv_storvsc'].map((name) => module(name) ?? assert.fail(`no ${name}.ko`));
  files = [];
  for (const file of [vmlinux, ...modules]) files.push(await openDebugInfo(file));
  for (const f of files) await f.complete;
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'scenarios-'));
  for (const f of SOURCES) {
    fs.mkdirSync(path.join(folder, 'linux', path.dirname(f)), { recursive: true });
    fs.writeFileSync(path.join(folder, 'linux', f), '');
  }
  const program = path.join(folder, 'root', 'program');
  fs.mkdirSync(path.dirname(program));
  fs.copyFileSync(path.join(PROGRAM, 'stack.elf'), program);
  const extra = [
    { path: 'program', mode: 0o755, data: fs.readFileSync(program) },
    { path: 'first', mode: 0o755, data: FIRST },
  ];
  files.push(await openDebugInfo(program));
  const initrd = path.join(folder, 'initrd');
  fs.writeFileSync(initrd, gzipSync(await debianInitramfs({ modules: ['hv_storvsc'], extra }), { level: 1 }));
  const disk = path.join(folder, 'disk');
  fs.writeFileSync(disk, new Uint8Array(1 << 20));
  launch = {
    kernel: guest.kernel,
    initrd,
    append: 'console=ttyAMA0 oops=panic rdinit=/first',
    disks: [{ path: disk, readOnly: true }],
    symbols: [vmlinux, ...modules, path.dirname(program)],
    sourceMap: { '': path.join(folder, 'linux'), user: PROGRAM },
    stopOnEntry: true,
  };
});

/** `vmbus_isr` of `vmbus_isr+0x8 [hv_vmbus]`. */
const bare = (name: string): string => /^[\w.$]+/.exec(name)?.[0].replace(/\..*$/, '') ?? name;

/**
 * A line as its distance from where its function starts: functions move in their files with every release, and change less often. Of
 * assembler it is the first instruction's line.
 */
function lineInFunction(name: string, file: string, line: number): string {
  for (const info of files) {
    for (const die of info.lookup(bare(name), [KIND.function, KIND.inline])) {
      const declared = info.declaration(die);
      if (declared && path.basename(declared.path) === file) return `${file} +${line - declared.line}`;
    }
    for (const i of info.elf.symbols.find(bare(name))) {
      const first = info.lineAt(info.elf.address(info.elf.symbols.places[i]));
      if (first && path.basename(first.path) === file) return `${file} +${line - first.line}`;
    }
  }
  return file;
}

/** One session, and what is told of it. */
class Scenario {
  readonly dc: Client;
  #lines: string[] = [];
  #named = new Map<number, string>();
  /** Of the last stop. */
  threadId = 1;

  constructor(dc: Client) {
    this.dc = dc;
  }

  tell(text: string): void {
    this.#lines.push(text.replace(/(\d{6,} \()?0x[0-9a-f]{6,}/g, '$1<address>').replace(/\d{6,} \(<address>/g, '(<address>'));
  }

  /** The transcript up to here, compared with its golden file. */
  end(name: string): void {
    golden(name, this.#lines.join('\n'));
    this.#lines = [];
  }

  /** Breakpoints at functions: `name` or `name if condition`. */
  async breakAt(...functions: string[]): Promise<void> {
    this.tell(`-> setFunctionBreakpoints ${functions.join(', ') || 'none'}`);
    const parts = functions.map((f) => f.split(' if '));
    const names = parts.map(([name]) => name);
    const { breakpoints } = await this.dc.request<DebugProtocol.SetFunctionBreakpointsResponse['body']>(
      'setFunctionBreakpoints',
      { breakpoints: parts.map(([name, condition]) => ({ name, ...(condition ? { condition } : {}) })) },
    );
    this.#named = new Map(breakpoints.map((b, i) => [b.id ?? 0, names[i]]));
    for (const [i, b] of breakpoints.entries()) this.tell(`   ${names[i]}: ${b.verified ? 'verified' : 'pending'}`);
  }

  /** A request after which the guest runs, to the next stop. */
  async run(command: string, args: object = {}): Promise<DebugProtocol.StackFrame[]> {
    this.tell(`-> ${command}${Object.keys(args).length ? ` ${JSON.stringify(args)}` : ''}`);
    await this.dc.request(command, { threadId: this.threadId, ...args });
    return this.stopped();
  }

  async stopped(): Promise<DebugProtocol.StackFrame[]> {
    const stop = await this.dc.stopped();
    this.threadId = stop.threadId ?? 1;
    const frames = await this.frames();
    const hit = stop.hitBreakpointIds?.map((id) => this.#named.get(id)).join();
    if (stop.reason === 'step') this.tell(`   ${this.place(frames[0])}`);
    else this.tell(`<- stopped: ${stop.reason}${hit ? ` ${hit}` : ''}; ${(stop.text ?? '').replace(/\+0x[0-9a-f]+/g, '')}`);
    return frames;
  }

  frames(): Promise<DebugProtocol.StackFrame[]> {
    return this.dc.frames(this.threadId);
  }

  /** What can be stepped into here; the ids by name. */
  async targets(): Promise<Map<string, number>> {
    const frameId = (await this.frames())[0].id;
    const { targets } = await this.dc.request<DebugProtocol.StepInTargetsResponse['body']>('stepInTargets', { frameId });
    this.tell(`-> stepInTargets\n   ${targets.map((t) => t.label).join(', ') || 'none'}`);
    return new Map(targets.map((t) => [t.label, t.id]));
  }

  place(frame: DebugProtocol.StackFrame): string {
    const name = frame.name.replace(/\+0x[0-9a-f]+/, '');
    const lines = frame.source?.path?.startsWith('/')
      ? lineInFunction(name, frame.source.name ?? '', frame.line)
      : '(disassembly)';
    return `${name}  ${lines}`;
  }

  stack(frames: readonly DebugProtocol.StackFrame[]): void {
    for (const [i, f] of frames.entries()) this.tell(`   #${i} ${this.place(f)}`);
  }

  async value(expression: string, frame?: DebugProtocol.StackFrame): Promise<DebugProtocol.EvaluateResponse['body']> {
    const frameId = (frame ?? (await this.frames())[0]).id;
    const value = await this.dc.request<DebugProtocol.EvaluateResponse['body']>('evaluate', {
      ...{ expression, frameId, context: 'watch' },
    });
    this.tell(`-> evaluate ${expression}`);
    this.tell(`   ${value.result}`);
    return value;
  }

  async children(value: DebugProtocol.EvaluateResponse['body']): Promise<void> {
    const { variables } = await this.dc.request<DebugProtocol.VariablesResponse['body']>('variables', {
      variablesReference: value.variablesReference,
    });
    for (const v of variables) this.tell(`     ${v.name}: ${v.value}`);
  }
}

test('early boot, a message and its answer, an interrupt, a driver that binds, an oops', {
  timeout: 300_000,
}, async (t: TestContext) => {
  const dc = await Client.start(t);
  const s = new Scenario(dc);
  await dc.launch(launch);
  await dc.stopped();

  s.stack(await s.frames());
  await s.breakAt('primary_entry', '__primary_switch');
  s.stack(await s.run('continue'));
  s.stack(await s.run('stepIn'));
  await s.run('stepOut');
  s.stack(await s.run('continue'));
  await s.breakAt();
  await s.value('$SCTLR_EL1 & 1');
  for (let frames = await s.frames(); !/^__primary_switched/.test(frames[0].name); ) {
    const before = (await s.frames())[0];
    frames = await s.run('next');
    if (/^__primary_switched/.test(frames[0].name))
      s.tell(`   from ${before.instructionPointerReference} to ${frames[0].instructionPointerReference}`);
  }
  await s.value('$SCTLR_EL1 & 1');
  s.stack(await s.run('next'));
  s.end('early-boot');

  await s.breakAt('ksys_write if $current->comm == "program"');
  s.stack(await s.run('continue'));
  s.end('user-space');

  await s.breakAt('function_trace_call', 'kprobe_dispatcher');
  s.stack((await s.run('continue')).slice(0, 5));
  await s.breakAt('kprobe_dispatcher');
  s.stack((await s.run('continue')).slice(0, 11));
  s.end('patched-functions');

  await s.breakAt('vmbus_negotiate_version', 'storvsc_probe');
  let frames = await s.run('continue');
  s.stack(frames.slice(0, 5));
  const targets = await s.targets();
  await s.run('stepIn', { targetId: targets.get('init_completion (inlined)') });
  await s.run('stepOut');
  const hypercall = (...calls: string[]): Promise<unknown> =>
    dc.request('hyperstep/setHypercallBreakpoints', { breakpoints: calls.map((call) => ({ call, phase: 'entry' })) });
  await hypercall('HvCallPostMessage');
  do frames = await s.run('next');
  while (/^vmbus_negotiate_version/.test(frames[0].name));
  s.stack(frames.slice(0, 5));
  await hypercall();
  const { description } = await dc.request<DebugProtocol.ExceptionInfoResponse['body']>('exceptionInfo', {
    threadId: s.threadId,
  });
  s.tell(`-> exceptionInfo\n   ${description?.replaceAll('\n', '\n   ')}`);
  const negotiating = frames.find((f) => f.name.startsWith('vmbus_negotiate_version')) ?? assert.fail('no such frame');
  await s.children(await s.value('*msg', negotiating));
  const answer = 'msginfo->response.version_response.version_supported';
  await s.value(answer, negotiating);
  // Over the HVC, out of the wrappers around it, and over waiting for the answer.
  await s.run('next', { granularity: 'instruction' });
  while (!/^vmbus_negotiate_version/.test(frames[0].name)) frames = await s.run('stepOut');
  for (let i = 0; i < 3; i++) await s.run('next');
  await s.value(answer);
  s.end('message');

  await s.breakAt('vmbus_isr', 'storvsc_probe');
  frames = await s.run('continue');
  s.stack(frames);
  const interrupted = frames.findIndex((f) => f.name.endsWith('(exception taken here)'));
  // What the interrupted code was about.
  await s.value('*(struct vmbus_channel_message_header *)buffer', frames[interrupted + 2]);
  s.end('interrupt');

  await s.breakAt('storvsc_probe');
  frames = await s.run('continue');
  s.stack(frames);
  const { modules } = await dc.request<DebugProtocol.ModulesResponse['body']>('modules', {});
  for (const m of modules) s.tell(`   ${m.name}: ${m.symbolStatus?.replace(/\d+/, '<n>')}`);
  s.end('driver');

  await s.breakAt();
  s.tell('-> setExpression device = 0');
  await dc.request('setExpression', { expression: 'device', value: '0', frameId: frames[0].id });
  frames = await s.run('continue');
  s.stack(frames);
  s.end('oops');
  await dc.finish();
});

test('two VPs: one waits for the other for ever while that stands still, and is done when it goes on', {
  timeout: 300_000,
}, async (t) => {
  const dc = await Client.start(t);
  const s = new Scenario(dc);
  await dc.launch({ ...launch, cpus: 2 });
  await dc.stopped();
  // The other one begins as the first did.
  await s.breakAt('secondary_entry');
  s.stack(await s.run('continue'));
  s.tell(`   on VP ${s.threadId - 1}`);
  await s.value('$SCTLR_EL1 & 1');
  await s.run('next');
  s.end('second-processor');

  await s.breakAt('kick_all_cpus_sync if __num_online_cpus.counter == 2');
  s.stack((await s.run('continue')).slice(0, 2));
  await s.breakAt();
  s.tell('-> next {"singleThread":true}\n-> pause');
  let frames: DebugProtocol.StackFrame[] = [];
  let waits = -1;
  // A pause may come before it waits.
  for (let tries = 0; tries < 100 && waits < 0; tries++) {
    await dc.request('next', { threadId: s.threadId, singleThread: true });
    await dc.request('pause', { threadId: s.threadId });
    assert.equal((await dc.stopped()).threadId, s.threadId);
    frames = await s.frames();
    waits = frames.findIndex((f) => f.name.startsWith('smp_call_function_many_cond'));
  }
  s.stack(frames.slice(waits));
  await s.run('stepOut');
  s.end('two-processors');

  // The next call has no room.
  await s.breakAt('ksys_write');
  frames = await s.run('continue');
  await s.breakAt();
  s.tell('-> setExpression $sp = (long)$current->stack + 16');
  await dc.request('setExpression', { expression: '$sp', value: '(long)$current->stack + 16', frameId: frames[0].id });
  s.stack(await s.run('continue'));
  s.end('stack-overflow');

  await dc.request('disconnect');
});
