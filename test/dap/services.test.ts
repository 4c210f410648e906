/** Integration services as the editor reaches them: launch.json, the Debug Console, requests. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import type { DebugProtocol } from '@vscode/debugprotocol';
import { debianGuest } from '../../scripts/debian-guest.mjs';
import { APPEND, initramfsWithDaemons } from '../guest/daemons.ts';
import { Client, EMBEDDED } from './harness.ts';

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'hyperstep-dap-services-'));
after(() => fs.rmSync(folder, { recursive: true }));
const saved = (name: string, data: Uint8Array | string): string => {
  fs.writeFileSync(path.join(folder, name), data);
  return path.join(folder, name);
};

test('settings and commands that cannot be: one message each, which names what is wrong', async (t) => {
  const settings: [object, RegExp][] = [
    [{ maxMemory: 5000 }, /"maxMemory" must be a whole number from 64 to 3072 \(MiB\), not 5000/],
    [{ maxMemory: 64, memory: 128 }, /maxMemory must be 128 \(memory\) to 3072 MiB, not 64/],
    [{ keyValuePairs: ['a'] }, /"keyValuePairs" must be an object of texts/],
    [{ keyValuePairs: { a: 1 } }, /"keyValuePairs" must be an object of texts/],
    [{ copyFiles: {} }, /"copyFiles" must be a list of/],
    [{ copyFiles: [{ from: 'x' }] }, /"copyFiles": \{"from":"x"\} has no "from" or no "to"/],
    [{ copyFiles: [{ from: 'x', to: '/x', overwirte: true }] }, /"copyFiles": "overwirte" is not known/],
    [{ copyFiles: [{ from: path.join(folder, 'none'), to: '/x' }] }, /"copyFiles": .*none: no such file/],
    [{ copyFiles: [{ from: folder, to: '/x' }] }, /"copyFiles": .*: it is a folder/],
    [{ copyFiles: [{ from: saved('x', 'x'), to: 'x' }] }, /x: not the full path of a file in the guest/],
  ];
  const dc = await Client.start(t);
  await dc.request('initialize', { adapterID: 'hyperstep' });
  for (const [wrong, message] of settings)
    assert.match(await dc.refused('launch', { kernel: EMBEDDED, memory: 64, ...wrong }), message);
  await dc.request('launch', { kernel: EMBEDDED, memory: 64, stopOnEntry: true, keyValuePairs: { a: 'b' } });
  await dc.event('initialized');
  await dc.request('configurationDone');
  await dc.stopped();
  const commands: [string, RegExp][] = [
    ['shutdown now', /shutdown or shutdown force, not "now"/],
    ['hibernate', /shutdown channel is not open/],
    ['synctime', /timesync channel is not open/],
    ['kvp external', /hv_kvp_daemon/],
    ['kvp set', /kvp set\|delete\|get/],
    ['kvp set nowhere a b', /There is no pool "nowhere"; pools are external guest auto auto-external auto-internal/],
    [`kvp set external ${'k'.repeat(300)} v`, /key: 300 characters, where 255 fit/],
    ['freeze', /hv_vss_daemon/],
    ['copy x', /copy FILE TO/],
    [`copy ${folder}/none /x`, /none: no such file/],
    [`copy ${folder}/x x`, /x: not the full path/],
    ['memory', /memory MIB, or memory add MIB/],
    ['memory 32', /hv_balloon/],
    ['memory 65', /must be 2 to 64 MiB in steps of 2, not 65/],
    ['memory add 64', /64 MiB cannot be added at 64 MiB: the machine has room for 64 MiB/],
  ];
  for (const [expression, message] of commands)
    assert.match(await dc.refused('evaluate', { expression, context: 'repl' }), message, expression);
  assert.match(await dc.refused('hyperstep/memory', {}), /"target" or "add"/);
  assert.match(await dc.refused('hyperstep/memory', { target: -1 }), /"target" must be a whole number that is not negative/);
  assert.match(await dc.refused('hyperstep/setKeyValuePair', { pool: 'a', key: 'b' }), /There is no pool "a"/);
  assert.deepEqual(await dc.request('hyperstep/backup', { frozen: true }), { accepted: false });
  await dc.finish();
});

test('with Debian and its daemons: every command is answered, and what the guest says of itself is there', async (t) => {
  const { kernel } = await debianGuest();
  const initrd = saved('initrd', await initramfsWithDaemons('echo GUEST-READY; sleep 1000'));
  const dc = await Client.start(t);
  const copyFiles = [{ from: saved('file', 'hello'), to: '/tmp/from/launch', createPath: true }];
  await dc.launch({ kernel, initrd, append: APPEND, memory: 512, keyValuePairs: { role: 'web server' }, copyFiles });
  const told = (text: string) => dc.event<DebugProtocol.OutputEvent['body']>('output', (o) => o.output.startsWith(text));
  await told('fcopy: /tmp/from/launch: 5 bytes copied');
  const say = async (expression: string): Promise<string> =>
    (await dc.request<DebugProtocol.EvaluateResponse['body']>('evaluate', { expression, context: 'repl' })).result;
  assert.equal(await say('kvp set external "two words" a value'), 'Asked the guest to keep two words.');
  await told('kvp: set external two words: done');
  await say('kvp delete external "two words"');
  await told('kvp: delete external two words: done');
  await say('kvp guest');
  await told('kvp: pool guest: 0 items');
  const { items } = await dc.request<{ items: { pool: string; key: string; value: string }[] }>('hyperstep/keyValuePairs');
  const found = new Map(items.map((i) => [`${i.pool} ${i.key}`, i.value]));
  assert.deepEqual(
    ['external role', 'external two words', 'auto OSName', 'auto ProcessorArchitecture'].map((k) => found.get(k)),
    ['web server', undefined, 'Test Linux', 'aarch64'],
  );
  assert.match(await say('kvp'), /^auto +OSName +Test Linux$/m);
  assert.match(await say('vmbus'), /OSName: Test Linux/);
  await say('freeze');
  await told('vss: freeze: done');
  assert.deepEqual(await dc.request('hyperstep/backup', { frozen: false }), { accepted: true });
  await told('vss: backup complete: done');
  await say('memory 400');
  await told('balloon: balloon: 112 MiB; the guest has 400 MiB now');
  assert.deepEqual(await dc.request('hyperstep/memory', { target: 512 }), { accepted: true });
  await told('balloon: unballoon: 112 MiB; the guest has 512 MiB now');
  await say('synctime');
  assert.match(await say(`copy "${folder}/file" /tmp/from/console overwrite`), /file, 5 bytes/);
  await told('fcopy: /tmp/from/console: 5 bytes copied');
  await say('hibernate');
  await told('shutdown: hibernate: the guest failed (0x80004005)');
  await say('shutdown force');
  await told('shutdown: shutdown: the guest agrees');
  await dc.event('terminated');
  await dc.finish();
});
