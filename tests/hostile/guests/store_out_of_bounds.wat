(func $main (v128.store offset=0xfffffff0 (i32.const 0x10000) (v128.const i64x2 0 0)))
