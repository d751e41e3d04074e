// Exit statuses that are not a command's own: those of env(1), nohup(1) and timeout(1) of GNU.

/** An error of nono itself. */
export const ownFailure = 125;
/** `--timeout` ended the command. */
export const timedOut = 124;
