import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GuestKernel, KernelFacts } from '../../debug-adapter/linux/kernel.ts';
import { readInterrupts } from '../../debug-adapter/linux/interrupts.ts';
import { MessageSources } from '../../debug-adapter/linux/message-sources.ts';
import { readLoadedModules } from '../../debug-adapter/linux/loaded-modules.ts';
import { readMounts } from '../../debug-adapter/linux/mounts.ts';
import { KernelObjects } from '../../debug-adapter/linux/objects.ts';
import { readLog, timeText } from '../../debug-adapter/linux/printk.ts';
import { readTasks, sleepsIn, taskStack } from '../../debug-adapter/linux/tasks.ts';
import { frameName } from '../../debug-adapter/linux/unwind.ts';
import { KernelFile, unwrapKernel } from '../../debug-adapter/kernel-file.ts';
import { debianInitramfs } from '../../scripts/debian-guest.mjs';
import { debianConfig, Recorded } from './debian.ts';

/** The guest says what it knows of itself, and then waits. */
const SCRIPT = `#!/bin/sh
dmesg -n 1
mkdir -p /tmp/deep/er
mount -t tmpfs -o ro somewhere /tmp/deep/er
sleep 4242 &
echo "== modules"; cat /proc/modules
echo "== mounts"; cat /proc/mounts
echo "== interrupts"; cat /proc/interrupts
echo "== tasks"; for t in /proc/[0-9]*/task/*; do
  read -r comm <$t/comm; s=$(sed 's/.*) //; s/ .*//' <$t/stat)
  echo "\${t##*/} $s $comm"
done
echo "== stacks"; for t in /proc/[0-9]*; do echo "pid \${t##*/}"; cat $t/stack; done
echo "== dmesg"; dmesg -r
echo "== end"
exec sleep 4243
`;

/** What the guest told under a heading. */
const section = (console: string, name: string): string[] =>
  (new RegExp(`^== ${name}\\r?\\n([\\s\\S]*?)^== `, 'm').exec(console)?.[1] ?? '').replaceAll('\r', '').trimEnd().split('\n');

const suites = process.env.HYPERSTEP_SUITES?.split(',') ?? ['own'];

for (const suite of suites)
  test(`the kernel's own lists as its memory has them, without debug information: tasks, stacks, modules, log, mounts, interrupts (${suite})`, async () => {
    const config = await debianConfig(suite, {
      cpus: 2,
      initrd: await debianInitramfs({ suite, extra: [{ path: 'view', mode: 0o755, data: SCRIPT }] }),
      append: 'console=ttyAMA0 hyperstep.run=/view',
    });
    config.kernel = await unwrapKernel(config.kernel, 'kernel');
    const guest = new Recorded(config);
    const kernel = new GuestKernel(guest.machine, new KernelFacts(new KernelFile('kernel', config.kernel)));
    const slice = (): void => {
      const exit = guest.machine.run({ instructions: 10_000_000, nanoseconds: 200_000_000, resumeVp: undefined });
      assert.ok(exit.kind === 'limit' || kernel.absorb(exit), exit.kind);
      kernel.poll();
    };
    while (!/^== end/m.test(guest.console) && guest.machine.instructions < 4_000_000_000) slice();
    // The shell becomes `sleep`.
    for (let i = 0; i < 5; i++) slice();
    kernel.refreshModules(0);
    const objects = new KernelObjects(kernel, 0);
    const told = (name: string): string[] => section(guest.console, name);

    const modules = readLoadedModules(objects);
    assert.deepEqual(
      modules?.map((m) => {
        const users = m.usedBy.map((u) => `${u},`).join('') || '-';
        const taints = m.taints ? ` (${m.taints})` : '';
        return `${m.name} ${m.size} ${m.references} ${users} ${m.state === 'live' ? 'Live' : m.state} 0x${m.base.toString(16)}${taints}`;
      }),
      told('modules'),
    );

    const mounts = readMounts(objects);
    assert.deepEqual(
      mounts?.map((m) => `${m.device} ${m.path} ${m.type} ${m.readOnly ? 'ro' : 'rw'}`).sort(),
      told('mounts')
        .map((line) => line.replace(/^(\S+ \S+ \S+ r[ow]).*$/, '$1'))
        .sort(),
    );

    const rows = told('interrupts').flatMap((line) => {
      const m = /^ *(\d+): +(\d+) +(\d+) +(\S.*?) {2,}(\d+) +(Edge|Level) +(.*)$/.exec(line);
      return m
        ? [
            {
              irq: Number(m[1]),
              chip: m[4],
              hwirq: BigInt(m[5]),
              trigger: m[6],
              names: m[7],
              counts: [Number(m[2]), Number(m[3])],
            },
          ]
        : [];
    });
    assert.ok(rows.length >= 3, told('interrupts').join('\n'));
    const interrupts = (readInterrupts(objects) ?? []).filter((i) => !i.hidden && i.actions.length > 0);
    assert.deepEqual(
      interrupts.map(({ irq, chip, hwirq, trigger, actions }) => ({
        irq,
        chip,
        hwirq,
        trigger,
        names: actions.map((a) => a.name).join(', '),
      })),
      rows.map(({ counts: _, ...row }) => row),
    );
    for (const [i, row] of rows.entries())
      for (const [vp, count] of row.counts.entries()) {
        const now = interrupts[i].counts[vp] ?? -1;
        assert.ok(now >= count && now < count + 5000, `interrupt ${row.irq} VP ${vp}: ${now}, was ${count}`);
      }

    const log = readLog(objects);
    const shown = (log?.records ?? []).map((r) => `${timeText(r.time)} ${r.text}`);
    const lines = told('dmesg').map((line) => line.replace(/^<(\d+)>/, ''));
    assert.ok(lines.length > 100, `${lines.length}`);
    assert.deepEqual(shown.flatMap((r) => r.split('\n')).slice(0, lines.length), lines);

    // Who printed it: most of it is known, and what can be checked is right.
    const sources = new MessageSources(kernel);
    const places = new Map((log?.records ?? []).map((r) => [r.text, sources.find(objects, r)]));
    const known = [...places.values()].filter((p) => p !== undefined).length;
    assert.ok(known > 0.7 * places.size, `${known} of ${places.size}`);
    const printer = (text: RegExp): string[] => {
      const found = [...places].find(([message]) => text.test(message))?.[1];
      return (found?.places ?? []).map((at) => kernel.symbols.format(at).replace(/\+0x.*$/, ''));
    };
    assert.deepEqual(printer(/^Root IRQ handler: /), ['set_handle_irq']);
    assert.deepEqual(printer(/^smp: Bringing up secondary CPUs/), ['smp_init']);
    assert.deepEqual(printer(/^hv_vmbus: registering driver hv_utils/), ['__vmbus_driver_register']);

    const tasks = readTasks(objects) ?? [];
    const all = tasks.flatMap((t) => [t, ...t.threads]).filter((t) => t.pid !== 0);
    const before = told('tasks').map((line) => /^(\d+) (\S) (.*)$/.exec(line)?.slice(1) ?? [line]);
    // What ended meanwhile: the programs that printed, workers, what start-up has begun. The kernel cuts names that are longer than `comm`.
    const gone = before.filter(([pid, , comm]) => {
      const now = all.find((t) => t.pid === Number(pid))?.comm;
      return now === undefined || !(comm.startsWith(now) || now.startsWith(comm) || comm === 'view');
    });
    assert.ok(gone.length <= 8 && gone.every(([, , comm]) => /^(kworker|sed|view|cryptomgr)/.test(comm)), JSON.stringify(gone));
    assert.ok(all.length >= before.length - gone.length, `${all.length} of ${before.length}`);
    for (const [pid, letter, comm] of before) {
      const now = all.find((t) => t.pid === Number(pid));
      // Sleeping ones of the kernel sleep still.
      if (now && /^(kthreadd|init|khungtaskd|ksoftirqd)/.test(comm)) assert.equal(now.letter, letter, comm);
    }

    const stacks = new Map<number, string[]>();
    let into: string[] = [];
    for (const line of told('stacks')) {
      const pid = /^pid (\d+)$/.exec(line)?.[1];
      if (pid !== undefined) {
        into = [];
        stacks.set(Number(pid), into);
      } else into.push(/\] (\w+)/.exec(line)?.[1] ?? line);
    }
    let same = 0;
    for (const task of all.filter((t) =>
      /^(kthreadd|rcu_gp|khungtaskd|ksoftirqd|kcompactd|kdevtmpfs|migration|oom_reaper|init|cpuhp)/.test(t.comm),
    )) {
      const { frames, broken } = taskStack(objects, task.address);
      assert.equal(broken, undefined, `${task.comm}: ${broken}`);
      // The kernel leaves out the scheduler's own functions, and what clones of functions are called.
      const from = sleepsIn(objects, frames);
      const names = frames.slice(from ? frames.indexOf(from) : 0).map((f) => frameName(f, kernel.symbols).replace(/[.+].*$/, ''));
      assert.deepEqual(names.slice(0, stacks.get(task.pid)?.length ?? 0), stacks.get(task.pid), task.comm);
      same++;
    }
    assert.ok(same >= 5, `${same} stacks`);
  });
