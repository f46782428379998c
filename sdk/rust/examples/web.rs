//! The ten examples of docs/sdk-examples.md, one path for each.
use edge::json::{object, Json};
use edge::{log, Fetch, Request, Response};

// example: hello
fn hello(request: &Request) -> Response {
    Response::text(200, format!("Hello, {}!\n", request.query("name").unwrap_or("world")))
}

// example: json
fn sum(request: &Request) -> Response {
    let body = request.body_json();
    let total: i64 = body.get("numbers").items().iter().filter_map(Json::as_i64).sum();
    Response::json(200, object(vec![("sum", total.into())]))
}

// example: query
fn tags(request: &Request) -> Response {
    let lines = request.query_all("tag").iter().map(|tag| format!("{}\n", tag)).collect::<String>();
    Response::text(200, lines)
}

// example: cookies
fn visits(request: &Request) -> Response {
    let count = 1 + request.cookie("visits").and_then(|value| value.parse::<u32>().ok()).unwrap_or(0);
    let attributes = "Path=/; HttpOnly; SameSite=Lax";
    Response::text(200, format!("visit {}", count)).cookie("visits", &count.to_string(), attributes)
}

// example: form
fn order(request: &Request) -> Response {
    match (request.form_field("count"), request.form_field("item")) {
        (Some(count), Some(item)) => Response::text(200, format!("{} x {}", count, item)),
        _ => Response::problem(400, "Incomplete order", "send count and item"),
    }
}

// example: multipart
fn upload(request: &Request) -> Response {
    let part = match request.multipart().unwrap_or_default().into_iter().next() {
        Some(part) => part,
        None => return Response::problem(400, "No file", "send multipart/form-data"),
    };
    let file = vec![
        ("filename", part.filename.as_deref().into()),
        ("type", part.content_type.as_deref().into()),
        ("bytes", (part.body.len() as i64).into()),
    ];
    Response::json(200, object(file))
}

// example: redirect
fn moved(_: &Request) -> Response {
    Response::redirect(308, "/hello?name=Ada")
}

// example: problem
fn item(request: &Request) -> Response {
    match request.query("id").and_then(|id| id.parse::<u32>().ok()) {
        Some(id) => Response::text(200, format!("item {}", id)),
        None => Response::problem(400, "Not a number", "id is to be a number"),
    }
}

// example: fetch
fn rates(_: &Request) -> Response {
    log::info("asking for the rates");
    match Fetch::get("https://api.example.com/rates").send() {
        Ok(got) => Response::new(got.status).header("content-type", "application/json").body(got.body),
        Err(error) => {
            log::error(&error.message);
            Response::problem(502, "No rates", &error.code)
        }
    }
}

// example: store
fn place_order(request: &Request) -> edge::Result<Response> {
    let span = edge::trace::start("place order", vec![])?;
    let number = edge::kv::increment("shop", "orders", 1)?;
    edge::queue::publish("orders", &request.body(), &[("kind".to_string(), "new".to_string())])?;
    span.end()?;
    Ok(Response::text(202, format!("order {}", number)))
}

// example: end
fn main() {
    let request = Request::read();
    let response = match request.path() {
        "/hello" => hello(&request),
        "/sum" => sum(&request),
        "/tags" => tags(&request),
        "/visits" => visits(&request),
        "/order" => order(&request),
        "/upload" => upload(&request),
        "/moved" => moved(&request),
        "/item" => item(&request),
        "/rates" => rates(&request),
        "/orders" => place_order(&request).unwrap_or_else(|error| Response::problem(502, "Failed", &error.message)),
        _ => Response::problem(404, "Not found", "there is no such example"),
    };
    response.send();
}
