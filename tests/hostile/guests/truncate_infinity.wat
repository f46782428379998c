(func $main (drop (i64.trunc_f32_u (f32.const inf))))
