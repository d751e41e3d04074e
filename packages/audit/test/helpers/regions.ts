// The regions of a file of a log directory: what a reader would call its parts.

/** Bytes `[start, end)` of a file. */
export interface Region {
  readonly what: string;
  readonly start: number;
  readonly end: number;
  /** Of a journal: which frame. */
  readonly frame?: number;
}

/** Every part of `bytes`, by what kind of file `name` is. */
export function regionsOf(name: string, bytes: Buffer): Region[] {
  if (name.startsWith("tile/entries/")) return bundleRegions(bytes);
  if (name.startsWith("tile/")) return hashRegions(bytes);
  if (name.startsWith(".nono/journal/")) return frameRegions(bytes);
  return textRegions(bytes);
}

function hashRegions(bytes: Buffer): Region[] {
  return Array.from({ length: bytes.length / 32 }, (_, n) => ({
    what: `hash ${n}`,
    start: n * 32,
    end: n * 32 + 32,
  }));
}

/** The length of every entry, its start, somewhere within, and its end; of every hundredth, each member. */
function bundleRegions(bytes: Buffer): Region[] {
  const regions: Region[] = [];
  for (let at = 0, n = 0; at < bytes.length; n += 1) {
    const [start, end] = [at + 2, at + 2 + bytes.readUInt16BE(at)];
    regions.push({ what: `length of entry ${n}`, start: at, end: start });
    regions.push({ what: `entry ${n}`, start, end });
    regions.push({ what: `end of entry ${n}`, start: end - 1, end });
    if (n % 100 === 0) {
      const json = bytes.toString("latin1", start, end);
      for (const { 0: member, index } of json.matchAll(/"[^"]*"|\d+|[[\]{}:,]/g))
        regions.push({
          what: `${member} of entry ${n}`,
          start: start + index,
          end: start + index + member.length,
        });
    }
    at = end;
  }
  return regions;
}

function frameRegions(bytes: Buffer): Region[] {
  const regions: Region[] = [];
  for (let at = 0, frame = 0; at < bytes.length; frame += 1) {
    const start = at + 8;
    const end = start + (bytes.readUInt32LE(at) & 0x7fff_ffff);
    regions.push(
      { what: `length of frame ${frame}`, start: at, end: at + 4, frame },
      { what: `checksum of frame ${frame}`, start: at + 4, end: start, frame },
      { what: `kind of frame ${frame}`, start, end: start + 1, frame },
      { what: `payload of frame ${frame}`, start: start + 1, end, frame },
    );
    at = end;
  }
  return regions;
}

/** Every word of every line, its newline, and of long words start, middle and end. */
function textRegions(bytes: Buffer): Region[] {
  const text = bytes.toString("latin1");
  return [...text.matchAll(/\n|[^\s]+| /g)].flatMap(({ 0: word, index }) => {
    const what = JSON.stringify(word.slice(0, 20));
    const whole = { what, start: index, end: index + word.length };
    if (word.length < 12) return [whole];
    const third = Math.floor(word.length / 3);
    return [
      { what: `start of ${what}`, start: index, end: index + third },
      { what: `middle of ${what}`, start: index + third, end: index + 2 * third },
      { what: `end of ${what}`, start: index + 2 * third, end: index + word.length },
    ];
  });
}
