// Posts a file several times over one client of the JDK, which offers h2c on each plain request.
// java Post.java URL CONTENT_TYPE FILE TIMES; prints a line for each answer: status and body.

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Path;

public class Post {
  public static void main(String[] arguments) throws Exception {
    var client = HttpClient.newHttpClient();
    var request =
        HttpRequest.newBuilder(URI.create(arguments[0]))
            .header("content-type", arguments[1])
            .POST(BodyPublishers.ofFile(Path.of(arguments[2])))
            .build();
    for (int number = 0; number < Integer.parseInt(arguments[3]); number++) {
      var answer = client.send(request, BodyHandlers.ofString());
      System.out.println(answer.statusCode() + " " + answer.body());
    }
  }
}
