import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { Client, EMBEDDED } from './harness.ts';

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'hyperstep-dap-disks-'));
after(() => fs.rmSync(folder, { recursive: true }));
const image = (name: string, size: number): string => {
  fs.writeFileSync(path.join(folder, name), new Uint8Array(size));
  return path.join(folder, name);
};

test('disks of launch.json: what is wrong is one message, what is right is in the VMBus view with its disks', async (t) => {
  const good = image('good.img', 4096);
  const cases: [unknown, RegExp][] = [
    ['disk.img', /"disks" must be a list/],
    [[{ readOnly: true }], /"disks": \{"readOnly":true\} has no "path"/],
    [[{ path: 7 }], /"disks": "path" must be a string/],
    [[{ path: good, readonly: true }], /"disks": "readonly" is not known/],
    [[{ path: good, readOnly: 'yes' }], /"disks": "readOnly" must be a boolean/],
    [[{ path: path.join(folder, 'none.img') }], /"disks": .*none\.img: no such file/],
    [[{ path: image('odd.img', 1000) }], /"disks": .*odd\.img: a raw image must be whole sectors of 512 bytes, not 1000 bytes/],
    [[{ path: image('no.vhdx', 4096) }], /"disks": .*no\.vhdx: neither the signature/],
    [
      [{ path: good, writeTo: path.join(folder, 'kept.raw') }],
      /"disks": .*kept\.raw: what the guest writes is kept in a \.vhdx file/,
    ],
    [[{ path: image('short.iso', 2560) }], /disk "short\.iso": 2560 bytes are not whole sectors of 2048/],
  ];
  const dc = await Client.start(t);
  await dc.request('initialize', { adapterID: 'hyperstep' });
  for (const [disks, message] of cases)
    assert.match(await dc.refused('launch', { kernel: EMBEDDED, memory: 64, disks }), message);
  const disks = [{ path: good }, { path: image('disc.iso', 4096) }, { path: good, readOnly: true }];
  await dc.request('launch', { kernel: EMBEDDED, memory: 64, disks, stopOnHypercalls: ['HvCallPostMessage'] });
  await dc.event('initialized');
  await dc.request('configurationDone');
  // Until the guest has its offers.
  let details: string[] | undefined;
  for (let stop = 0; stop < 60 && !details; stop++) {
    if (stop > 0) await dc.request('continue', { threadId: 1 });
    await dc.stopped();
    const { channels } = await dc.request<{ channels: { device: string; details: string[] }[] }>('hyperstep/vmbus', {}, true);
    details = channels.find((c) => c.device === 'scsi')?.details;
  }
  assert.ok(details);
  assert.deepEqual(
    details.filter((line) => /^ *(LUN|name|type|readOnly)/.test(line)).map((line) => line.trim()),
    [
      'LUN 0',
      'name: good.img',
      'type: disk',
      'readOnly: false',
      'LUN 1',
      'name: disc.iso',
      'type: DVD',
      'readOnly: false',
      'LUN 2',
      'name: good.img (2)',
      'type: disk',
      'readOnly: true',
    ],
    details.join('\n'),
  );
  await dc.finish();
});
