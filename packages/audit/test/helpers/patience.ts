/** Milliseconds for a program that a test waits for without an event loop: less than the test itself has. */
export const patience = 240_000;
