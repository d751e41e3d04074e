/** Characters that a way of writing text replaces, and what by. */
type Escapes = Readonly<Record<string, string>>;

const tags: Escapes = { "&": "&amp;", "<": "&lt;", ">": "&gt;" };
const quoted: Escapes = { ...tags, '"': "&quot;" };

/** Text in HTML and XML, as the libraries that servers are made with write it. */
const markup: readonly Escapes[] = [
  tags,
  quoted,
  { ...quoted, "'": "&#39;" }, // Rails, Spring, ASP.NET
  { ...quoted, "'": "&#x27;" }, // Python, Django, React
  { ...quoted, "'": "&#039;" }, // PHP
  { ...quoted, "'": "&apos;" }, // XML
  { ...tags, '"': "&#34;", "'": "&#39;" }, // Go's html, Jinja
  { ...tags, '"': "&#34;", "'": "&#39;", "+": "&#43;" }, // Go's html/template
  { ...quoted, "'": "&#x27;", "+": "&#x2B;" }, // ASP.NET Core
  { ...quoted, "'": "&#x27;", "`": "&#x60;", "=": "&#x3D;" }, // Handlebars
  { ...quoted, "'": "&#39;", "/": "&#x2F;", "`": "&#x60;", "=": "&#x3D;" }, // Mustache
];

const lowerUnicode: Escapes = {
  "<": String.raw`\u003c`,
  ">": String.raw`\u003e`,
  "&": String.raw`\u0026`,
};
const upperUnicode: Escapes = {
  "<": String.raw`\u003C`,
  ">": String.raw`\u003E`,
  "&": String.raw`\u0026`,
};

/** Text in JSON (RFC 8259 section 7), beyond what must be escaped. */
const json: readonly Escapes[] = [
  {},
  { "/": String.raw`\/` }, // PHP
  lowerUnicode, // Go, Rails
  { ...lowerUnicode, "=": String.raw`\u003d`, "'": String.raw`\u0027` }, // Gson
  upperUnicode, // Django
  {
    ...upperUnicode,
    '"': String.raw`\u0022`,
    "'": String.raw`\u0027`,
    "+": String.raw`\u002B`,
    "`": String.raw`\u0060`,
  }, // System.Text.Json
];

/**
 * The ways in which a server may give a value back: as it is, in another case, in UTF-16 or Latin-1, base64 at every offset,
 * URL-encoded, escaped in JSON or HTML, in hex.
 */
export function encodedForms(secret: Buffer): Buffer[] {
  const text = secret.toString("utf8");
  // Without the zero at one end: binary data is full of them, and each would be held back as a possible beginning.
  const utf16 = Buffer.from(text, "utf16le");
  const bigEndian = Buffer.from(utf16).swap16();
  const texts = [
    text.toLowerCase(),
    text.toUpperCase(),
    ...urlForms(text),
    ...json.flatMap((escapes) => jsonForms(text, escapes)),
    ...markup.map((escapes) => text.replace(/[&<>"'`+/=]/g, (char) => escapes[char] ?? char)),
    secret.toString("hex"),
    secret.toString("hex").toUpperCase(),
    ...base64Cores(secret),
  ];
  const forms = [
    secret,
    Buffer.from(text, "latin1"), // as a field's value is sent
    utf16.subarray(0, -1),
    bigEndian.subarray(1),
    ...texts.map((form) => Buffer.from(form)),
  ];
  return [...new Map(forms.map((form) => [form.toString("latin1"), form])).values()];
}

/** The forms that are written in lines of a fixed length. */
export function wrappedForms(secret: Buffer): Buffer[] {
  const hex = secret.toString("hex");
  return [hex, hex.toUpperCase(), ...base64Cores(secret)].map((form) => Buffer.from(form));
}

function urlForms(text: string): string[] {
  const component = encodeURIComponent(text);
  const strict = component.replace(/[!'()*]/g, percent);
  const every = [...Buffer.from(text)].map(percentByte).join("");
  const forms = [
    component,
    strict, // RFC 3986, PHP
    strict.replaceAll("%2F", "/"), // Python
    component.replace(/[!'()~]/g, percent), // forms (WHATWG), Java
    encodeURI(text),
    every,
  ];
  return forms.flatMap((form) => [form, lowerEscapes(form), form.replaceAll("%20", "+")]);
}

const percent = (char: string): string => percentByte(char.charCodeAt(0));
const percentByte = (byte: number): string =>
  `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;

function lowerEscapes(text: string): string {
  return text.replace(/%[0-9A-F]{2}/g, (escape) => escape.toLowerCase());
}

/** With what is not ASCII as it is, and escaped. */
function jsonForms(text: string, escapes: Escapes): string[] {
  const characters = text.split("");
  const written = characters.map((char) => escapes[char] ?? JSON.stringify(char).slice(1, -1));
  const ascii = (upper: boolean): string =>
    written
      .map((form, i) => {
        const code = characters[i]?.charCodeAt(0) ?? 0;
        if (code < 0x7f) return form;
        const hex = code.toString(16).padStart(4, "0");
        return String.raw`\u${upper ? hex.toUpperCase() : hex}`;
      })
      .join("");
  // Half a surrogate pair alone would be escaped.
  const whole = written.map((form, i) =>
    /[^\0-\x7f]/.test(characters[i] ?? "") ? characters[i] : form,
  );
  return [whole.join(""), ascii(false), ascii(true)];
}

/**
 * In base64 a value looks different at each of the three offsets that whatever stands before it leaves (`user:` in
 * Basic). The characters that also hold bits of the neighbours are left out.
 */
function base64Cores(secret: Buffer): string[] {
  return [0, 1, 2].flatMap((offset) => {
    const shifted = Buffer.concat([Buffer.alloc(offset), secret]);
    const start = [0, 2, 3][offset];
    const end = Math.floor((shifted.length * 8) / 6);
    const standard = shifted.toString("base64").slice(start, end);
    return [standard, standard.replaceAll("+", "-").replaceAll("/", "_")];
  });
}
