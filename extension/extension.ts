import * as vscode from 'vscode';
import type { HypercallBreakpoint } from '../debug-adapter/protocol.ts';
import { registerConsole } from './console.ts';
import { fetchDebianSymbols } from './debian-symbols.ts';
import { HypercallBreakpoints } from './hypercall-breakpoints.ts';
import { registerLaunch } from './launch.ts';
import { registerOpenCode } from './open-code.ts';
import { Sessions } from './session-client.ts';
import { hypercallsView } from './views/hypercalls.ts';
import { linuxView } from './views/linux.ts';
import { msHypervView } from './views/ms-hyperv.ts';
import type { Line } from './views/tree.ts';
import { vmbusChannelsView } from './views/vmbus-channels.ts';
import { vpRegistersView } from './views/vp-registers.ts';
import { registerDisplay } from './webviews/display/panel.ts';

export function activate(context: vscode.ExtensionContext): void {
  const sessions = new Sessions();
  const breakpoints = new HypercallBreakpoints(context, sessions);
  const shutdown = async (restart: boolean): Promise<void> => {
    const client = sessions.current;
    if (!client) return;
    const { accepted } = await client.request('hyperstep/shutdown', { restart });
    if (!accepted)
      void vscode.window.showWarningMessage('The guest has not opened the shutdown channel (hv_utils is not loaded).');
  };
  context.subscriptions.push(
    sessions,
    registerLaunch(context),
    registerConsole(sessions),
    registerDisplay(context, sessions),
    vpRegistersView(sessions),
    msHypervView(sessions),
    vmbusChannelsView(sessions),
    hypercallsView(sessions, breakpoints),
    linuxView(sessions),
    registerOpenCode(sessions),
    sessions.onChange(({ change, client }) => {
      if (change === 'started' && breakpoints.all.length) void breakpoints.send(client);
    }),
    vscode.commands.registerCommand('hyperstep.addHypercallBreakpoint', () => breakpoints.add()),
    vscode.commands.registerCommand('hyperstep.removeHypercallBreakpoint', (line: Line) =>
      breakpoints.remove(line.data as HypercallBreakpoint),
    ),
    vscode.commands.registerCommand('hyperstep.fetchDebianSymbols', () => fetchDebianSymbols(context, sessions)),
    vscode.commands.registerCommand('hyperstep.shutdownGuest', () => shutdown(false)),
    vscode.commands.registerCommand('hyperstep.restartGuest', () => shutdown(true)),
  );
}

export function deactivate(): void {}
