/** With each member either there or absent, never undefined (`exactOptionalPropertyTypes`). */
export type Defined<T> = { [K in keyof T]: Exclude<T[K], undefined> };

/** `value` without the members that are undefined. */
export function withoutUndefined<T extends object>(value: T): Partial<Defined<T>> {
  const entries = Object.entries(value).filter(([, member]) => member !== undefined);
  return Object.fromEntries(entries) as Partial<Defined<T>>;
}
