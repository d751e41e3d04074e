// A plugin of TypeDoc: documents are called by their headings, and not by the names of their files.
import path from "node:path";
import { type Application, DocumentReflection, ReflectionKind, RendererEvent } from "typedoc";

/** Called by TypeDoc. */
export function load(app: Application): void {
  // When the pages have their addresses, which stay those of the files.
  app.renderer.on(RendererEvent.BEGIN, ({ project }) => {
    for (const document of project.getReflectionsByKind(ReflectionKind.Document)) {
      if (!(document instanceof DocumentReflection)) continue;
      const text = document.content.map((part) => part.text).join("");
      // A slash in a name makes a folder of the navigation.
      const heading = /^# (?:@nono\/)?([^/\n]+)$/m.exec(text)?.[1];
      if (heading !== undefined) document.name = path.join(path.dirname(document.name), heading);
    }
  });
}
