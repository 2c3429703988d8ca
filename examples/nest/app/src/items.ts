// What the shop sells: an entity, a controller over it, and the module that joins them to the database.

import { Body, Controller, Get, Module, Post, type OnApplicationShutdown, type OnModuleInit } from '@nestjs/common';
import { InjectRepository, TypeOrmModule } from '@nestjs/typeorm';
import { Column, Entity, PrimaryGeneratedColumn, Repository } from 'typeorm';

@Entity('items')
export class Item {
  @PrimaryGeneratedColumn() id: number;
  @Column() name: string;
}

@Controller()
export class ItemsController implements OnModuleInit, OnApplicationShutdown {
  constructor(@InjectRepository(Item) private readonly items: Repository<Item>) {}

  // The adapter asks for this until it is answered, and only then lets requests in.
  @Get('health-check')
  health() {
    return { ok: true };
  }

  @Get('items')
  all() {
    return this.items.find({ order: { id: 'ASC' } });
  }

  @Post('items')
  add(@Body() item: Pick<Item, 'name'>) {
    return this.items.save({ name: item.name });
  }

  onModuleInit() {
    console.log('connected to the database');
  }

  // Called by `enableShutdownHooks()` alone, when a signal arrives; TypeORM's module closes its connections likewise.
  onApplicationShutdown(signal?: string) {
    console.log(`${signal}: the application shuts down`);
  }
}

@Module({
  imports: [
    TypeOrmModule.forRoot({
      type: 'postgres',
      url: process.env.DATABASE_URL,
      applicationName: process.env.AWS_LAMBDA_FUNCTION_NAME,
      entities: [Item],
      // A launch is no time to wait longer for the database than the caller waits for us.
      connectTimeoutMS: 10_000,
      retryAttempts: 0,
    }),
    TypeOrmModule.forFeature([Item]),
  ],
  controllers: [ItemsController],
})
export class AppModule {}
