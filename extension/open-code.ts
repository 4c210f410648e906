import * as vscode from 'vscode';
import type { CodePlace } from '../debug-adapter/protocol.ts';
import type { Sessions } from './session-client.ts';

export const OPEN_CODE = 'hyperstep.openCode';

/** What a click on code in a view does: its source opens, or where there is none its disassembly. An address alone will do. */
export const openCode = (at: CodePlace | string): vscode.Command => ({ command: OPEN_CODE, title: 'Open Code', arguments: [at] });

export const registerOpenCode = (sessions: Sessions): vscode.Disposable =>
  vscode.commands.registerCommand(OPEN_CODE, async (at: CodePlace | string) => {
    const client = sessions.current;
    if (!client) return;
    const { name, source, line } = typeof at === 'string' ? await client.request('hyperstep/codePlace', { address: at }) : at;
    if (!source) {
      void vscode.window.showWarningMessage(`There is no source and no disassembly of ${name}.`);
      return;
    }
    const uri =
      source.sourceReference || !source.path
        ? vscode.debug.asDebugSourceUri(source, client.session)
        : vscode.Uri.file(source.path);
    const place = new vscode.Position(Math.max(0, line - 1), 0);
    const document = await vscode.workspace.openTextDocument(uri);
    await vscode.window.showTextDocument(document, { selection: new vscode.Range(place, place), preview: true });
  });
