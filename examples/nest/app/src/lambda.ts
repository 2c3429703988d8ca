// The same application as a zip: Lambda's events become requests, without a server or a port.

import 'reflect-metadata';
import { ServerlessAdapter } from '@h4ad/serverless-adapter';
import { ApiGatewayV2Adapter } from '@h4ad/serverless-adapter/adapters/aws';
import { ExpressFramework } from '@h4ad/serverless-adapter/frameworks/express';
import { LazyFramework } from '@h4ad/serverless-adapter/frameworks/lazy';
import { DefaultHandler } from '@h4ad/serverless-adapter/handlers/default';
import { PromiseResolver } from '@h4ad/serverless-adapter/resolvers/promise';
import { NestFactory } from '@nestjs/core';
import { AppModule } from './items.js';

async function application() {
  const application = await NestFactory.create(AppModule, { logger: ['warn', 'error'] });
  // As in the image. No signal comes to a function without extensions, so it changes nothing here.
  application.enableShutdownHooks();
  await application.init();
  return application.getHttpAdapter().getInstance();
}

// A function URL's events are those of HTTP APIs. The first one waits for the application to be there.
export const handler = ServerlessAdapter.new(null)
  .setFramework(new LazyFramework(new ExpressFramework(), application))
  .setHandler(new DefaultHandler())
  .setResolver(new PromiseResolver())
  .addAdapter(new ApiGatewayV2Adapter())
  .build();
