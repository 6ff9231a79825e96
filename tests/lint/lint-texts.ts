import { text } from 'node:stream/consumers'
import { ESLint } from 'eslint'

/** Lints texts as if they stood in files of the project. stdin: `[{ file, text }]`; stdout: rule ids or messages per text. */

interface Given { readonly file: string; readonly text: string }

const eslint = new ESLint()
const complaints: string[][] = []
for (const given of JSON.parse(await text(process.stdin)) as Given[]) {
  const results = await eslint.lintText(given.text, { filePath: given.file })
  complaints.push(results.flatMap((result) => result.messages.map((found) => `${found.ruleId ?? 'parser'}: ${found.message}`)))
}
console.log(JSON.stringify(complaints))
