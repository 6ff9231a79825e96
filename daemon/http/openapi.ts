import swagger from '@fastify/swagger'
import { Type } from 'typebox'
import { StintError } from '../core/errors.ts'
import { errorResponses, type Permission } from './schemas.ts'
import type { Api } from './api.ts'

declare module 'fastify' {
  interface FastifySchema {
    'x-permission'?: Permission
  }
}

/** A query that knows no keys: what a route has that declares none. */
const noQuery = Type.Object({}, { additionalProperties: false })

/** What an API says of itself. */
export interface Description {
  readonly title: string
  /** What it is, and on which socket. */
  readonly about: string
  readonly permissions: Readonly<Partial<Record<Permission, string>>>
}

/**
 * Every route says what it takes, answers and asks for, or the daemon does not start. Call before the routes are added.
 */
export async function addOpenapi(api: Api, { title, about, permissions }: Description): Promise<void> {
  await api.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title,
        version: '1',
        description: `${about} The kernel tells who asks (SO_PEERCRED). Times are milliseconds since 1970, sizes bytes. \`x-permission\`: ${Object.entries(permissions).map(([name, meaning]) => `\`${name}\`: ${meaning}`).join('; ')}.`,
      },
    },
  })
  api.addHook('onRoute', (route) => {
    const { schema } = route
    const responses = (schema?.response ?? {}) as Record<string, unknown>
    const permission = schema?.['x-permission']
    const declared = schema?.operationId !== undefined && schema.summary !== undefined && permission !== undefined && permission in permissions
    const answers = Object.keys(responses).some((status) => status.startsWith('2')) && '4xx' in responses && '5xx' in responses
    const takes = (!route.url.includes(':') || schema?.params !== undefined) && (route.method === 'GET' || schema?.body !== undefined)
    if (schema === undefined || !declared || !answers || !takes) throw new StintError('E_INTERNAL', `${String(route.method)} ${route.url} lacks a part of its schema`)
    schema.querystring ??= noQuery
  })
  api.get('/v1/openapi.json', {
    schema: {
      operationId: 'describeApi', summary: 'This description', 'x-permission': Object.keys(permissions)[0] as Permission,
      response: { 200: Type.Unknown(), ...errorResponses },
    },
  }, () => api.swagger())
}
