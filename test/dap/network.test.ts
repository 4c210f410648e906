import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Client, EMBEDDED } from './harness.ts';

test('the network of launch.json: what is wrong is one message, what is right is in the VMBus view, and the cable can be pulled', async (t) => {
  const cases: [unknown, RegExp][] = [
    ['user', /"network" must be an object such as \{ "mode": "internal" \}/],
    [{ allow: [] }, /"network" must be an object such as/],
    [{ mode: 'bridge' }, /"network": "mode" must be "internal" or "user", not "bridge"/],
    [{ mode: 'user', allow: 'x:1' }, /"network": "allow" must be a list of "HOST:PORT"/],
    [{ mode: 'user', allow: ['x'] }, /"network": network: "allow": "x": it has no host and port/],
    [{ mode: 'user', ports: [] }, /"network": "ports" is not known/],
    [{ mode: 'internal', names: { a: 1 } }, /"network": "names" must be an object of names with IPv4 addresses/],
    [{ mode: 'internal', names: { a: '1.2.3' } }, /network: "a": "1\.2\.3" is not an IPv4 address/],
    [{ mode: 'internal', mac: '01:00:00:00:00:00' }, /is not the MAC address of a card/],
    [{ mode: 'internal', vlans: [5000] }, /VLAN ids are 1 to 4094, not 5000/],
    [{ mode: 'internal', capture: '/nowhere/at/all.pcapng' }, /"capture": \/nowhere\/at\/all\.pcapng: cannot be written/],
  ];
  const dc = await Client.start(t);
  await dc.request('initialize', { adapterID: 'hyperstep' });
  for (const [network, message] of cases)
    assert.match(await dc.refused('launch', { kernel: EMBEDDED, memory: 64, network }), message);
  const network = { mode: 'internal', mac: '00-15-5D-00-00-42', vlans: [5] };
  await dc.request('launch', { kernel: EMBEDDED, memory: 64, network, stopOnHypercalls: ['HvCallPostMessage'] });
  await dc.event('initialized');
  await dc.request('configurationDone');
  // Until the guest has its offers.
  const details = async (): Promise<string[] | undefined> => {
    const { channels } = await dc.request<{ channels: { device: string; details: string[] }[] }>('hyperstep/vmbus', {}, true);
    return channels.find((c) => c.device === 'network')?.details.map((line) => line.trim());
  };
  let found: string[] | undefined;
  for (let stop = 0; stop < 60 && !found; stop++) {
    if (stop > 0) await dc.request('continue', { threadId: 1 });
    await dc.stopped();
    found = await details();
  }
  assert.ok(found);
  assert.deepEqual(
    ['mac: 00:15:5d:00:00:42', 'link: up', 'mode: internal'].filter((line) => !found?.includes(line)),
    [],
    found.join('\n'),
  );
  const say = async (expression: string): Promise<string> =>
    (await dc.request<{ result: string }>('evaluate', { expression, context: 'repl' }, true)).result;
  assert.equal(await say('network down'), 'The link is down.');
  assert.ok((await details())?.includes('link: down'));
  assert.equal(await say('network detach'), 'The network card is taken away.');
  assert.match(await dc.refused('evaluate', { expression: 'network up', context: 'repl' }), /The guest has no network card/);
  assert.match(
    await dc.refused('evaluate', { expression: 'network', context: 'repl' }),
    /followed by up, down, attach or detach/,
  );
  assert.equal(await say('network attach'), 'The guest is offered a network card.');
});

test('the sockets of launch.json: what is wrong is one message', async (t) => {
  const cases: [unknown, RegExp][] = [
    [{ mode: 'stdio' }, /"sockets": "mode" must be "internal", "folder" or "programs", not "stdio"/],
    [
      { mode: 'programs', hostPrograms: ['x'] },
      /"hostPrograms" must be an object of ports with lists of a program and its arguments/,
    ],
    [{ mode: 'programs', guestPrograms: { 22: 'ssh' } }, /"guestPrograms" must be an object of ports with lists/],
    [{ mode: 'programs', hostPrograms: { ssh: ['x'] } }, /"sockets": sockets: ssh is no port: 0 to 4294967294/],
    [{ mode: 'programs' }, /mode "programs" needs "hostPrograms" or "guestPrograms"/],
    [{ mode: 'internal', guestPrograms: {} }, /"guestPrograms" is for mode "programs", not "internal"/],
  ];
  const dc = await Client.start(t);
  await dc.request('initialize', { adapterID: 'hyperstep' });
  for (const [sockets, message] of cases)
    assert.match(await dc.refused('launch', { kernel: EMBEDDED, memory: 64, sockets }), message);
});
