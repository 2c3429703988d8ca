// The application as it ran on ECS: an ordinary web server. In the image the Lambda Web Adapter speaks to it.

import 'reflect-metadata';
import { NestFactory } from '@nestjs/core';
import { AppModule } from './items.js';

async function main() {
  const application = await NestFactory.create(AppModule, { logger: ['warn', 'error'] });
  // Off by default: without it nothing is closed when SIGTERM comes.
  application.enableShutdownHooks();
  await application.listen(Number(process.env.PORT ?? 3000), '127.0.0.1');
}

void main();
