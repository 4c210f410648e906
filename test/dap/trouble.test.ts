import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DebugProtocol } from '@vscode/debugprotocol';
import type { CustomRequests, TaskView } from '../../debug-adapter/protocol.ts';
import { debianGuest } from '../../scripts/debian-guest.mjs';
import { Client } from './harness.ts';

type Info = DebugProtocol.ExceptionInfoResponse['body'];
type Response<K extends keyof CustomRequests> = CustomRequests[K][1];

const suites = process.env.HYPERSTEP_SUITES?.split(',') ?? ['own'];
const FILTERS = ['panic', 'oops', 'bug', 'warn', 'lockdep', 'rcu-stall', 'soft-lockup', 'hung-task'];

for (const suite of suites)
  test(`what goes wrong in a kernel is a stop with its own text, at the frame that caused it; the Linux requests see it (${suite})`, async (t) => {
    const guest = await debianGuest({ suite });
    const dc = await Client.start(t);
    const launch = {
      cpus: 2,
      kernel: guest.kernel,
      initrd: guest.initrd,
      append: 'console=ttyAMA0 hyperstep.shell hyperstep.nomod',
    };
    let answers: DebugProtocol.Breakpoint[] = [];
    await dc.launch({ ...launch, stopOnEntry: true, tasksAsThreads: true }, async () => {
      const filterOptions = [{ filterId: 'warn', condition: '$current->comm == "busybox" || $current->comm == "sync"' }];
      const { breakpoints } = await dc.request<{ breakpoints: DebugProtocol.Breakpoint[] }>('setExceptionBreakpoints', {
        filters: FILTERS.filter((f) => f !== 'warn'),
        filterOptions,
      });
      answers = breakpoints;
    });
    await dc.stopped();
    const order = [...FILTERS.filter((f) => f !== 'warn'), 'warn'];
    for (const [i, filter] of order.entries())
      if (filter === 'lockdep') assert.match(answers[i].message ?? '', /this kernel has no lockdep/);
      else assert.ok(answers[i].verified, filter);
    assert.match(await dc.refused('hyperstep/tasks', {}), /No Linux kernel has been found/);

    const command = (text: string) => dc.request('hyperstep/consoleInput', { data: `${text}\n` });
    const go = () => dc.request('continue', { threadId: 1 });
    const until = async (text: RegExp) => {
      while (!text.test(dc.console)) await dc.event('hyperstep/console');
    };
    const set = (expression: string, value: string) => dc.request('setExpression', { expression, value });
    const name = (f: DebugProtocol.StackFrame) => f.name.replace(/\+0x[0-9a-f]+/, '');
    /** The frame that the editor shows, after those that only tell of it. */
    const cause = async (thread = stop.threadId) =>
      (await dc.frames(thread)).find((f) => f.presentationHint !== 'subtle') ?? assert.fail();
    let stop: DebugProtocol.StoppedEvent['body'];
    const info = () => dc.request<Info>('exceptionInfo', { threadId: 1 });

    await go();
    await until(/INIT-SHELL[\s\S]*# /);

    // In place of what `sync` asks for, the kernel gets something else to do.
    const instead = async (pc: string, registers: Record<string, string>): Promise<void> => {
      await dc.request('setFunctionBreakpoints', { breakpoints: [{ name: '__arm64_sys_sync' }] });
      await command('sync &');
      await dc.stopped();
      await dc.request('setFunctionBreakpoints', { breakpoints: [] });
      for (const [register, value] of Object.entries(registers)) await set(`$${register}`, value);
      await set('$pc', pc);
      await go();
    };

    await instead('refcount_warn_saturate', { x0: '$sp - 4096', x1: '2' });
    stop = await dc.stopped();
    assert.deepEqual([stop.reason, stop.description], ['exception', 'Kernel WARN']);
    assert.match(stop.text ?? '', /^WARNING: .*refcount\.c:\d+/);
    assert.equal(name(await cause()), 'refcount_warn_saturate (exception taken here)');
    let told = await info();
    assert.match(
      told.description ?? '',
      /refcount_t: addition on 0; use-after-free\.[\s\S]*BRK instruction: BUG\(\) or WARN\(\)/,
    );
    await go();

    // A task that will not be woken: this one sleeps, and now may not be interrupted. After an oops the kernel does not look any more.
    await command('echo 3 >/proc/sys/kernel/hung_task_timeout_secs; sleep 10000 & sleep 1; echo READY$((1+1))');
    await until(/READY2\r?\n/);
    await dc.request('pause', { threadId: 1 });
    await dc.stopped();
    const { tasks } = await dc.request<Response<'hyperstep/tasks'>>('hyperstep/tasks');
    const sleeper =
      tasks.find((task: TaskView) => task.name === 'sleep') ?? assert.fail(JSON.stringify(tasks.map((x) => x.name)));
    assert.match(sleeper.where ?? '', /nanosleep/);
    const stack = await dc.request<Response<'hyperstep/taskStack'>>('hyperstep/taskStack', { task: sleeper.address });
    assert.match(stack.frames[0].name, /^__switch_to\+/);
    assert.ok(
      stack.frames.some((f) => /^__arm64_sys_clock_nanosleep\+/.test(f.name)),
      JSON.stringify(stack.frames.map((f) => f.name)),
    );
    assert.match(await dc.refused('hyperstep/taskStack', { task: '0x1000' }), /0x1000 is no task/);
    // As a thread, by setting: its frames have its own registers, and its own $current.
    const { threads } = await dc.request<DebugProtocol.ThreadsResponse['body']>('threads');
    const thread = threads.find((th) => th.name.startsWith(`${sleeper.pid} sleep (`)) ?? assert.fail(JSON.stringify(threads));
    const [, frame] = await dc.frames(thread.id);
    const pid = await dc.request<{ result: string }>('evaluate', {
      expression: '$current->pid',
      frameId: frame.id,
      context: 'watch',
    });
    assert.match(pid.result, new RegExp(`^${sleeper.pid}\\b`));
    assert.match(await dc.refused('next', { threadId: thread.id }), /only VPs can be stepped/);
    await set(`((struct task_struct *)${sleeper.address})->__state`, '2');
    await go();
    stop = await dc.stopped();
    assert.deepEqual([stop.reason, stop.description], ['exception', 'Hung task']);
    assert.match(stop.text ?? '', new RegExp(`^INFO: task sleep:${sleeper.pid} blocked for more than \\d+ seconds\\.$`));
    assert.match(
      (await info()).description ?? '',
      /sleep \(\d+\): sleeps, cannot be interrupted\n {2}__switch_to\+[\s\S]*nanosleep/,
    );
    await command('echo 0 >/proc/sys/kernel/hung_task_timeout_secs');
    await go();

    await instead('strlen', { x0: '0x10' });
    stop = await dc.stopped();
    assert.deepEqual([stop.reason, stop.description], ['exception', 'Kernel oops']);
    assert.match(stop.text ?? '', /^Unable to handle kernel NULL pointer dereference at virtual address 0000000000000010$/);
    assert.match(name(await cause()), /^(__pi_)?strlen \(exception taken here\)$/);
    told = await info();
    assert.match(told.description ?? '', /\ndata abort: translation fault, level -?\d\n/);
    assert.match(told.description ?? '', /\n {2}access +read\n/);
    assert.match(told.description ?? '', /\n {2}FAR_EL1 +0x0000000000000010, in the first page: a NULL pointer/);
    await go();

    await instead('usercopy_abort', { x0: '0', x1: '0', x2: '0', x3: '8', x4: '16' });
    stop = await dc.stopped();
    assert.deepEqual([stop.reason, stop.description], ['exception', 'Kernel BUG']);
    assert.match(stop.text ?? '', /^kernel BUG at mm\/usercopy\.c:\d+!$/);
    assert.equal(name(await cause()), 'usercopy_abort (exception taken here)');
    await go();

    // A CPU that does nothing else for a minute, and may not be preempted.
    await instead('__delay', { x0: '60 * $CNTFRQ_EL0', 'current->thread_info.preempt.count': '1' });
    const seen = new Set<string>();
    for (let i = 0; i < 4 && seen.size < 2; i++) {
      stop = await dc.stopped();
      assert.equal(stop.reason, 'exception');
      seen.add(stop.description ?? '');
      assert.match(
        stop.text ?? '',
        stop.description === 'RCU stall'
          ? /^rcu: INFO: rcu_\w+ (self-detected stall on CPU$|detected stalls on CPUs)/
          : /BUG: soft lockup - CPU#\d stuck for \d+s! \[sync:\d+\]$/,
      );
      assert.match(
        name(await cause()),
        /^(__delay|arch_counter_get_cntvct|__arch_counter\w*|cpu_has\w*) \(exception taken here\)$/,
      );
      await go();
    }
    assert.deepEqual([...seen].sort(), ['RCU stall', 'Soft lockup']);

    await command('echo c >/proc/sysrq-trigger');
    do {
      stop = await dc.stopped();
      if (stop.description !== 'Kernel panic') await go();
    } while (stop.description !== 'Kernel panic');
    assert.equal(stop.text, 'Kernel panic - not syncing: sysrq triggered crash');
    assert.equal(name(await cause()), 'sysrq_handle_crash');
    const log = await dc.request<Response<'hyperstep/kernelLog'>>('hyperstep/kernelLog', { count: 300 });
    const line = log.records.find((r) => /sysrq: Trigger a crash/.test(r.text));
    assert.deepEqual(
      line?.printedBy?.map((p) => p.name.replace(/\+.*/, '')),
      ['__handle_sysrq'],
    );
    const place = await dc.request<Response<'hyperstep/codePlace'>>('hyperstep/codePlace', {
      address: line?.printedBy?.[0].address,
    });
    assert.match(place.source?.name ?? '', /^__handle_sysrq/);
    await dc.finish();
  });
