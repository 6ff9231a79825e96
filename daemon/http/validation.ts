import type { FastifySchemaCompiler } from 'fastify'
import type { TSchema } from 'typebox'
import { Compile } from 'typebox/compile'
import { StintError } from '../core/errors.ts'

interface ObjectSchema { readonly properties?: Readonly<Record<string, { readonly type?: string }>> }

/** Paths and queries are text: whole numbers become numbers where one is asked for. `1.5`, `1e3` and `0x10` do not. */
function readNumbers(schema: ObjectSchema, given: unknown): unknown {
  if (typeof given !== 'object' || given === null) return given
  return Object.fromEntries(Object.entries(given).map(([key, value]) => {
    const isNumber = schema.properties?.[key]?.type === 'integer' && typeof value === 'string' && /^\d{1,15}$/.test(value)
    return [key, isNumber ? Number(value) : (value as unknown)]
  }))
}

/** Validates requests as they stand: nothing is coerced or dropped, an unknown key is named with the known ones. */
export const validatorCompiler: FastifySchemaCompiler<TSchema> = ({ schema, httpPart }) => {
  const compiled = Compile(schema)
  const shape = schema as ObjectSchema
  return (given: unknown) => {
    const value = httpPart === 'body' ? given : readNumbers(shape, given)
    if (compiled.Check(value)) return { value }
    const errors = compiled.Errors(value)
    const unknown = errors.find((error) => error.keyword === 'additionalProperties')
    if (unknown?.keyword === 'additionalProperties') {
      const known = Object.keys(shape.properties ?? {}).join(', ')
      return { error: new StintError('E_BAD_REQUEST', `unknown key "${unknown.params.additionalProperties.join('", "')}"; known: ${known === '' ? 'none' : known}`) }
    }
    return { error: new StintError('E_BAD_REQUEST', `${httpPart ?? 'request'}${errors[0]?.instancePath ?? ''} ${errors[0]?.message ?? 'is not accepted'}`) }
  }
}
