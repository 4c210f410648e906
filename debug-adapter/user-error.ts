/** A message for the user: shown as it is, never with a stack. Names and bytes that it quotes may hold anything: control characters do not go out. */
export class UserError extends Error {
  constructor(message: string) {
    super(message.replace(/[^\P{Cc}\n]/gu, '?'));
  }
}
