;; Frames as large as they get without locals of their own.
(func $deep (param i64 i64 i64 i64 i64 i64 i64 i64 v128 v128 v128 v128) (result v128)
  (v128.xor (local.get 8)
    (call $deep (local.get 1) (local.get 2) (local.get 3) (local.get 4) (local.get 5) (local.get 6) (local.get 7)
      (local.get 0) (local.get 9) (local.get 10) (local.get 11) (local.get 8))))
(func $main
  (drop (call $deep (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0)
    (i64.const 0) (v128.const i64x2 0 1) (v128.const i64x2 0 2) (v128.const i64x2 0 3) (v128.const i64x2 0 4))))
