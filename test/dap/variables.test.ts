import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import type { DebugProtocol } from '@vscode/debugprotocol';
import { debianGuest } from '../../scripts/debian-guest.mjs';
import { Client, EMBEDDED } from './harness.ts';

type Variable = DebugProtocol.Variable;
type Evaluated = DebugProtocol.EvaluateResponse['body'];

const FOLDER = path.dirname(EMBEDDED);
const FIXTURE = path.join(FOLDER, 'fixture.c');
const lineOf = (text: string): number =>
  fs
    .readFileSync(FIXTURE, 'utf8')
    .split('\n')
    .findIndex((l) => l.includes(text)) + 1;

/** What a debugger's user looks at, at one frame. */
class Looker {
  readonly #dc: Client;
  readonly #frameId: number;
  constructor(dc: Client, frameId: number) {
    this.#dc = dc;
    this.#frameId = frameId;
  }

  evaluate(expression: string, context = 'watch', more: object = {}): Promise<Evaluated> {
    return this.#dc.request('evaluate', { expression, context, frameId: this.#frameId, ...more }, true);
  }
  async value(expression: string, context = 'watch', more: object = {}): Promise<string> {
    return (await this.evaluate(expression, context, more)).result;
  }
  refused(expression: string, context = 'watch'): Promise<string> {
    return this.#dc.refused('evaluate', { expression, context, frameId: this.#frameId });
  }
  async children(of: { variablesReference: number }, more: object = {}): Promise<Variable[]> {
    const args = { variablesReference: of.variablesReference, ...more };
    return (await this.#dc.request<{ variables: Variable[] }>('variables', args, true)).variables;
  }
  async inside(expression: string, more: object = {}): Promise<Record<string, string>> {
    const all = await this.children(await this.evaluate(expression), more);
    return Object.fromEntries(all.map((v) => [v.name, v.value]));
  }
  async scope(name: string): Promise<DebugProtocol.Scope> {
    const { scopes } = await this.#dc.request<{ scopes: DebugProtocol.Scope[] }>('scopes', { frameId: this.#frameId }, true);
    const found = scopes.find((s) => s.name === name);
    assert.ok(found, `${name} among ${scopes.map((s) => s.name)}`);
    return found;
  }
  async variables(scope: string): Promise<Record<string, string>> {
    return Object.fromEntries((await this.children(await this.scope(scope))).map((v) => [v.name, v.value]));
  }
}

test('locals, arguments and globals by debug information: looked at, expanded, changed, found in their source', async (t) => {
  const dc = await Client.start(t);
  await dc.launch(
    { kernel: EMBEDDED, memory: 64, sourceMap: { '': FOLDER } },
    async () => {
      await dc.request('setBreakpoints', { source: { path: FIXTURE }, breakpoints: [{ line: lineOf('int local = fixture') }] });
    },
    { supportsVariableType: true, supportsMemoryEvent: true, supportsInvalidatedEvent: true },
  );
  await dc.stopped();
  const frames = await dc.frames();
  const top = new Looker(dc, frames[0].id);
  assert.deepEqual(await top.variables('Arguments'), { p: '{x = 11 (0xb), y = -1}', depth: '0' });
  assert.equal((await top.variables('Locals')).product, '-11 (0xfffffff5)');
  const middle = new Looker(dc, frames[1].id);
  assert.equal((await middle.variables('Arguments')).count, '3');
  const locals = await middle.variables('Locals');
  assert.deepEqual([locals.total, locals.i, locals.moved], ['0', '0', '{x = 11 (0xb), y = -1}']);
  const outer = new Looker(dc, frames[2].id);
  assert.equal((await outer.variables('Locals')).list, '6');

  // Hover on a path, watch, repl.
  assert.equal(await top.value('p.x', 'hover'), '11 (0xb)');
  assert.equal(await top.value('p.x * depth + product'), '-11 (0xfffffff5)');
  assert.equal(await top.value('fixture.high', 'watch', { format: { hex: true } }), '0xabc');
  const { type, result } = await top.evaluate('fixture.colour');
  assert.deepEqual([type, result], ['enum colour', 'GREEN (5)']);
  assert.deepEqual(await top.inside('fixture'), {
    colour: 'GREEN (5)',
    points: '{{x = 1, y = -1}, {x = 2, y = -2}, {x = 3, y = -3}}',
    word: '{whole = 287454020 (0x11223344), bytes = {68 (0x44), 51 (0x33), 34 (0x22), 17 (0x11)}}',
    low: '9',
    high: '2748 (0xabc)',
    negative: '-42 (0xffffffffffffffd6)',
    flag: 'true',
    text: '"hyperstep"',
    list: await top.value('fixture.list'),
    operation: await top.value('fixture.operation'),
  });
  assert.match(await top.value('fixture.operation'), / <add>$/);
  assert.match(await top.value('fixture.list'), / <first>$/);
  assert.match(await top.value('fixture.list->next->next->name'), / "third"$/);
  assert.equal(await top.value('fixture.c::first.value + first.next->value'), '3');
  assert.equal(await top.value('fixture.text == "hyperstep" && BLUE == 6'), '1');
  assert.deepEqual(await top.inside('fixture.points', { filter: 'indexed', start: 1, count: 1 }), { '[1]': '{x = 2, y = -2}' });
  const points = await top.evaluate('fixture.points');
  assert.deepEqual([points.indexedVariables, points.namedVariables], [3, 0]);
  const [node] = (await top.children(await top.evaluate('fixture.list'))).filter((v) => v.name === 'next');
  assert.equal(node.evaluateName, 'fixture.list->next');
  assert.deepEqual(
    (await top.children(node)).map((v) => v.evaluateName),
    ['fixture.list->next->value', 'fixture.list->next->name', 'fixture.list->next->next'],
  );

  // Where a function pointer leads, and where a variable is declared.
  const location = async (locationReference: number | undefined) => {
    const body = await dc.request<DebugProtocol.LocationsResponse['body']>('locations', { locationReference }, true);
    return `${body?.source.name}:${body?.line}`;
  };
  const { valueLocationReference } = await top.evaluate('fixture.operation');
  assert.equal(await location(valueLocationReference), `fixture.c:${lineOf('static int add(int a') + 1}`);
  const [p] = await top.children(await top.scope('Arguments'));
  assert.equal(await location(p.declarationLocationReference), `fixture.c:${lineOf('NOINLINE static int inner')}`);

  // Changes: an argument in its register, a bit-field, text; others see them.
  const scope = await top.scope('Arguments');
  const set = await dc.request<{ value: string }>('setVariable', {
    variablesReference: scope.variablesReference,
    name: 'depth',
    value: 'p.x + 1',
  });
  assert.equal(set.value, '12 (0xc)');
  assert.equal(await top.value('depth'), '12 (0xc)');
  await dc.event('invalidated');
  await dc.request('setExpression', { expression: 'fixture.high', value: '0x123', frameId: frames[0].id });
  const { memoryReference, count } = await dc.event<DebugProtocol.MemoryEvent['body']>('memory');
  assert.deepEqual([memoryReference, count], [(await top.evaluate('fixture.high')).memoryReference, 2]);
  assert.deepEqual([await top.value('fixture.high'), await top.value('fixture.low')], ['291 (0x123)', '9']);
  assert.equal(await top.value('fixture.points[2].y = -7', 'repl'), '-7');
  assert.equal(await top.value('fixture.points[2].y'), '-7');
  for (const context of ['hover', 'watch'])
    assert.match(await top.refused('fixture.low = 1', context), /an expression here cannot change anything.* \(column 13\)/);
  assert.equal(await top.refused('fixture.nothing', 'repl'), 'struct fixture has no member nothing\nfixture.nothing\n       ^');

  // Completion knows members and locals.
  const complete = async (text: string) =>
    (
      await dc.request<DebugProtocol.CompletionsResponse['body']>(
        'completions',
        { text, column: text.length + 1, frameId: frames[0].id },
        true,
      )
    ).targets.map((i) => i.label);
  assert.deepEqual(await complete('fixture.list->n'), ['name', 'next']);
  assert.ok((await complete('prod')).includes('product'));
  assert.deepEqual(await complete('(struct fix'), ['fixture']);
  await dc.request('disconnect');
});

test("a distribution's kernel without any symbol file: its own types, the task that runs, lists, per-CPU variables, arguments at entry", async (t) => {
  const guest = await debianGuest();
  const dc = await Client.start(t);
  await dc.launch({ kernel: guest.kernel, initrd: guest.initrd, append: 'console=ttyAMA0', cpus: 2 }, async () => {
    await dc.request('setFunctionBreakpoints', { breakpoints: [{ name: 'vmbus_post_msg' }] });
  });
  const { threadId } = await dc.stopped();
  const [frame] = await dc.frames(threadId);
  const at = new Looker(dc, frame.id);
  assert.match(await at.value('((struct task_struct *)$current)->comm'), /^"[\w:/.+-]+"$/);
  assert.equal(await at.value('$current == $per_cpu(runqueues).curr'), '1');
  const command = await at.value('$current->comm');
  assert.equal(await at.value(`$current->comm == ${command}`), '1');
  assert.equal(await at.value('sizeof(struct page)'), '0x40 (64)');
  assert.equal(await at.value('init_task.comm'), '"swapper/0"');
  // All tasks but the first: the last of them links back to it.
  const tasks = await at.evaluate('init_task.tasks');
  assert.match(tasks.result, /^list of \d{2} struct task_struct$/);
  const [init, kthreadd] = await at.children(tasks, { filter: 'indexed', start: 0, count: 2 });
  assert.equal(init.value, '{pid = 1, comm = "init", ...}');
  assert.equal(kthreadd.value, '{pid = 2, comm = "kthreadd", ...}');
  assert.equal(await at.value(`(${init.evaluateName}).parent == &init_task`), '1');
  assert.equal(
    await at.value('$container_of(init_task.tasks.prev, struct task_struct, tasks)->tasks.next == &init_task.tasks'),
    '1',
  );
  const pids = await at.evaluate('init_pid_ns.idr');
  assert.match(pids.result, /^xarray of \d{2} struct pid$/);
  const [first] = await at.children(pids, { filter: 'indexed', start: 0, count: 1 });
  assert.equal(first.name, '[1]');
  assert.equal(await at.value('$per_cpu(runqueues, 1).cpu - $per_cpu(runqueues, 0).cpu'), '1');
  assert.match(await at.refused('$per_cpu(runqueues, 2).cpu'), /there is no VP 2 \(column 21\)/);
  assert.match(await at.value('init_task.sched_class'), /^0x/);
  assert.equal(
    await at.value('init_uts_ns.name.sysname == "Linux" && TASK_COMM_LEN == 16 && (enum pid_type)0 == PIDTYPE_PID'),
    '1',
  );
  // The module's own types come from its BTF in guest memory.
  assert.equal((await at.evaluate('hv_vmbus::vmbus_connection.conn_state')).result, 'CONNECTING (1)');
  assert.match((await at.inside('vmbus_connection')).chn_msg_list, /^list of 1 struct vmbus_channel_msginfo$/);
  const { words } = await dc.request<{ words: { field: string; guest?: string }[] }>('hyperstep/features', {}, true);
  for (const { field, guest: stored } of words)
    assert.equal(
      await at.value(`ms_hyperv.${field}`, 'watch', { format: { hex: true } }),
      `0x${BigInt(stored ?? 0).toString(16)}`,
    );
  // By the prototype: the message, its length.
  const args = await at.variables('Arguments');
  assert.deepEqual(Object.keys(args), ['buffer', 'buflen', 'can_sleep']);
  assert.equal(await at.value('buflen == $x1 && sizeof(struct vmbus_channel_initiate_contact) == buflen'), '1');
  assert.equal(await at.value('((struct vmbus_channel_message_header *)buffer)->msgtype'), 'CHANNELMSG_INITIATE_CONTACT (14)');
  await dc.request('disconnect');
});
