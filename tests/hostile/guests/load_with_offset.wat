;; Address and offset add up past 4 GiB.
(func $main (drop (i32.load offset=0xffffffff (i32.const 0xffffffff))))
