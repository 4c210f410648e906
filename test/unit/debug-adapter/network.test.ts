import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { openNetwork } from '../../../debug-adapter/cli/guest.ts';
import { GuestNetwork } from '../../../debug-adapter/network.ts';
import type { NetworkEvent, NetworkRequest } from '../../../emulator/index.ts';

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'hyperstep-network-'));
after(() => fs.rmSync(folder, { recursive: true }));

test('--network: every word, and what is wrong in one line', async () => {
  const network = await openNetwork({
    network:
      'user,allow=example.org:443,allow=udp:10.0.0.0/8:53,mac=00:15:5d:00:00:09,vlan=5,vlan=6,name=a.test=10.0.2.2,name=b=1.2.3.4',
  });
  assert.deepEqual(network.config, {
    mode: 'user',
    mac: '00:15:5d:00:00:09',
    vlans: [5, 6],
    names: { 'a.test': '10.0.2.2', b: '1.2.3.4' },
  });
  assert.equal(network.leadsOutside, true);
  const none = await openNetwork({});
  assert.deepEqual([none.config, none.leadsOutside], [undefined, false]);
  const cases: [string, RegExp][] = [
    ['bridge', /^--network bridge: expected internal or user, not "bridge"$/],
    ['internal,foo=1', /"foo=1" is none of allow=, capture=, mac=, vlan=, name=$/],
    ['internal,allow=a:1', /"allow" is for mode "user"/],
    ['user,allow=a', /"allow": "a": it has no host and port/],
    ['internal,vlan=x', /--network/],
    ['internal,name=x', /expected name=NAME=ADDRESS$/],
    [`internal,capture=${path.join(folder, 'none', 'x.pcapng')}`, /"capture": .*x\.pcapng: cannot be written: ENOENT/],
  ];
  for (const [text, message] of cases)
    await assert.rejects(
      openNetwork({ network: text }),
      (error: Error) => message.test(error.message) && !error.message.includes('\n'),
      text,
    );
});

/** As much of a machine as a network sees. */
function fakeMachine() {
  const listeners = new Set<(event: unknown) => void>();
  return {
    now: 5,
    onNetwork: (_request: NetworkRequest): void => {},
    taken: [] as NetworkEvent[],
    networkInput(event: NetworkEvent): void {
      this.taken.push(event);
    },
    subscribe(listener: (event: unknown) => void) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    emit: (event: unknown) => listeners.forEach((l) => void l(event)),
    listeners,
  };
}

test('a capture has the frames of every machine of a session, one after the other, and is whole when it is closed', () => {
  const file = path.join(folder, 'two.pcapng');
  const network = new GuestNetwork({ mode: 'internal', capture: file });
  const [first, second] = [fakeMachine(), fakeMachine()];
  const frame = (n: number) => ({ kind: 'frame', direction: 'guest-to-host', frame: new Uint8Array(20).fill(n) });
  network.connect(first as never, 0, () => {});
  first.emit(frame(0xaa));
  first.emit({ kind: 'guest', part: 'x', message: 'y' });
  network.connect(second as never, 0, () => {});
  assert.deepEqual([first.listeners.size, second.listeners.size], [0, 1]);
  second.emit(frame(0xbb));
  network.close();
  assert.equal(second.listeners.size, 0);
  const text = fs.readFileSync(file).toString('hex');
  assert.equal(text.match(/(?:aa){20}.*(?:bb){20}/)?.length, 1);
});

test('what is not allowed is said once, and the guest gets its answer after a rest', async () => {
  const network = new GuestNetwork({ mode: 'user', allow: ['localhost:1'] });
  const machine = fakeMachine();
  const notes: string[] = [];
  let woken = 0;
  network.connect(
    machine as never,
    0,
    (text) => notes.push(text),
    () => woken++,
  );
  for (const id of [1, 2]) machine.onNetwork({ kind: 'connect', id, address: '192.0.2.1', port: 80 });
  assert.deepEqual(machine.taken, []);
  await network.rest(10_000);
  await network.rest(10_000);
  assert.deepEqual(
    [machine.taken, notes, woken],
    [
      [
        { kind: 'refused', id: 1 },
        { kind: 'refused', id: 2 },
      ],
      ['network: TCP to 192.0.2.1:80 is not in "allow"'],
      2,
    ],
  );
  network.close();
});
