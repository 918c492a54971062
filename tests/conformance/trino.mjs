// Parses SQL with Trino's grammar, as dt-sql-parser has it: trino.mjs NODE_MODULES < JSON list of texts. Prints a JSON list: null, or
// what is wrong.

import { readFileSync } from 'node:fs';
import { registerHooks } from 'node:module';
import { pathToFileURL } from 'node:url';

const packages = pathToFileURL(process.argv[2] + '/').href;
// The package's modules name one another without an ending.
registerHooks({
  resolve(name, context, next) {
    const bare = name.startsWith('.') && !name.endsWith('.js') && context.parentURL?.includes('dt-sql-parser');
    return next(bare ? name + '.js' : name, context);
  },
});
const { BaseErrorListener, CharStreams, CommonTokenStream } = await import(packages + 'antlr4ng/dist/index.mjs');
const { TrinoSqlLexer } = await import(packages + 'dt-sql-parser/dist/lib/trino/TrinoSqlLexer.js');
const { TrinoSqlParser } = await import(packages + 'dt-sql-parser/dist/lib/trino/TrinoSqlParser.js');

class Listener extends BaseErrorListener {
  said = null;
  syntaxError(_recognizer, _symbol, line, column, message) {
    this.said ??= `${line}:${column} ${message}`;
  }
}

function wrong(text) {
  const listener = new Listener();
  const lexer = new TrinoSqlLexer(CharStreams.fromString(text));
  const parser = new TrinoSqlParser(new CommonTokenStream(lexer));
  for (const one of [lexer, parser]) {
    one.removeErrorListeners();
    one.addErrorListener(listener);
  }
  parser.program();
  return listener.said;
}

console.log(JSON.stringify(JSON.parse(readFileSync(0, 'utf8')).map(wrong)));
