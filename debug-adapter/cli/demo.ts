import { describeStop } from '../describe.ts';
import { Guest, MACHINE_HELP, MACHINE_OPTIONS, machineConfig, openDisks, openNetwork, openSockets } from './guest.ts';
import { options, UsageError } from './usage.ts';
import { describeVmbus, vmbusView } from '../vmbus-view.ts';

export const DEMO_HELP = `Usage: hyperstep demo --kernel FILE [OPTIONS]

Boots a kernel as a Hyper-V guest with its console on stdout, stops at the first HvCallPostMessage and explains what is
there, shows the VMBus channels once the guest has connected, and runs to the guest's own power-off.

${MACHINE_HELP}
`;

const CALL = 'HvCallPostMessage';

export async function demo(args: string[]): Promise<number> {
  const values = options('demo', args, MACHINE_OPTIONS);
  const disks = await openDisks(values);
  const network = await openNetwork(values);
  const sockets = await openSockets(values);
  if (sockets.takesStdio) throw new UsageError('--sockets stdio: the demo writes to the standard output itself');
  const config = await machineConfig(values, disks, network, sockets);
  const guest = await Guest.create(config, network, sockets);
  const { machine, kernel } = guest;
  const out = (text: string): void => {
    process.stdout.write(`${text}\n`);
  };
  const bold = (text: string): string => (process.stdout.isTTY ? `\x1b[1m${text}\x1b[0m` : text);
  const heading = (text: string): void => out(`\n${bold(`=== ${text}`)}`);
  guest.onConsole = (bytes) => {
    process.stdout.write(bytes);
  };
  kernel.onFound = (found) => out(`\n[hyperstep] Found the kernel in guest memory: ${found.summary}`);

  heading(`${config.kernelName}: booting as a Hyper-V guest (${config.memory} MiB, ${config.cpus} VP, CPU model ${config.cpu})`);
  out(`What follows is the guest's own serial console, until its first ${CALL}.`);

  let stopped = false;
  let channelsShown = false;
  for (;;) {
    const end = await guest.run({
      hypercall: channelsShown
        ? undefined
        : stopped
          ? // The guest has answered on a channel: it has connected, and the others are offered or open.
            (call) => call.phase === 'return' && machine.vmbus().channels.some((c) => c.packetsFromGuest > 0)
          : (call) => call.phase === 'entry' && call.name === CALL,
    });
    if (end.kind === 'hypercall' && !stopped) {
      stopped = true;
      heading(`Stopped: the guest is about to make its first ${CALL}`);
      out(
        kernel.image
          ? 'Nothing was patched and no symbol file was read: names come from the kallsyms table in guest memory.'
          : 'Nothing was patched; names come from the symbols of the kernel file itself.',
      );
      for (const line of describeStop(machine, kernel, end)) out(line);
      heading('Going on');
    } else if (end.kind === 'hypercall') {
      channelsShown = true;
      heading('The guest has connected to VMBus; these are its channels');
      kernel.refreshModules(0);
      for (const line of describeVmbus(vmbusView(machine, kernel))) out(line);
      heading("Going on to the guest's own power-off");
    } else {
      const good = end.kind === 'power-off';
      heading(good ? 'The guest has powered itself off' : `The guest ended: ${end.kind}`);
      if (!good) for (const line of end.kind === 'crash' ? describeStop(machine, kernel, end) : []) out(line);
      if (!channelsShown) {
        out('It never opened a VMBus channel. What the bus looked like:');
        for (const line of describeVmbus(vmbusView(machine, kernel))) out(line);
      }
      out(`instructions   ${machine.instructions}`);
      out(`host seconds   ${guest.hostSeconds.toFixed(2)}`);
      out(`MIPS           ${guest.mips.toFixed(0)}`);
      out(`state hash     ${machine.stateHash()}   (the same on every run of the same kernel, initramfs and options)`);
      network.close();
      sockets.close();
      return good ? 0 : 3;
    }
  }
}
