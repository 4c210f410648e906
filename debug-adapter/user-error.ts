/** A message for the user: shown as it is, never with a stack. */
export class UserError extends Error {}
